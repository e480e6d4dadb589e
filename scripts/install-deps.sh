#!/bin/sh
# Installs what a make target needs: install-deps.sh build|package|demo|test|fuzz|coverage|bare|kernel|bench. Debian packages by apt, only those that are
# missing; npm packages when package-lock.json is newer than node_modules. Safe to run any number of times. A line a step.
set -eu
export DEBIAN_FRONTEND=noninteractive
cd "$(dirname "$0")/.."

# command:package, so that a tool installed in another way counts too; or, with a slash in front, file:package, where * stands for what a version is in
build='g++:g++ make:make cmake:cmake'
# what compiles the fast path: without it lb4 is built all the same
optional='clang:clang /usr/include/bpf/bpf_helpers.h:libbpf-dev'
# `make package`: the addon for the other processor
package='aarch64-linux-gnu-g++:g++-aarch64-linux-gnu'
lab='ip:iproute2 nsenter:util-linux mount:mount iptables:iptables sysctl:procps ethtool:ethtool curl:curl'
test='tcpdump:tcpdump iperf3:iperf3 ss:iproute2 nstat:iproute2 python3:python3 ping:iputils-ping setpriv:util-linux tc:iproute2 /usr/sbin/bpftool:bpftool nft:nftables
  wrk:wrk promtool:prometheus /usr/include/pcap/pcap.h:libpcap-dev strace:strace shellcheck:shellcheck haproxy:haproxy cc:gcc
  dnsmasq:dnsmasq-base dig:bind9-dnsutils wg:wireguard-tools wireguard-go:wireguard-go
  /lib/systemd/systemd:systemd chromium:chromium tmux:tmux tshark:tshark'
# `make fuzz`: libFuzzer and the sanitizers of clang, whichever version of it is this Debian's
fuzz='clang:clang /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a:libclang-rt-dev'
coverage='llvm-cov:llvm'
bench='nft:nftables haproxy:haproxy iperf3:iperf3 cc:gcc wrk:wrk nginx:nginx-core /usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream
  dnsmasq:dnsmasq-base dig:bind9-dnsutils'
# `make test-bare`: what makes a Debian on which nothing is installed
bare='debootstrap:debootstrap'
# `make test-kernel`: what boots a stock kernel, beside what the tests need
kernel='qemu-system-x86_64:qemu-system-x86 busybox:busybox-static depmod:kmod cpio:cpio'

# wanted for their programs alone: the services that come with them must not run
services='haproxy prometheus'

# Forbids those services to start while they are installed, as invoke-rc.d(8) has it; an administrator's own policy stands.
forbid_services() {
  policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then return; fi
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\ncase "$*" in *haproxy* | *prometheus*) exit 101 ;; esac\n' >"$policy"
  chmod 755 "$policy"
}

# Keeps one that was just installed from starting with the next boot, with and without systemd.
disable_service() {
  deb-systemd-helper disable "$1.service" >/dev/null 2>&1 || true
  update-rc.d "$1" disable >/dev/null 2>&1 || true
}

if [ "$(uname -m)" = aarch64 ]; then package=x86_64-linux-gnu-g++:g++-x86-64-linux-gnu; fi

case "${1:-build}" in
  build) wanted="$build" ;;
  package) wanted="$build $package" ;;
  demo) wanted="$build $lab" ;;
  test) wanted="$build $lab $test $fuzz" ;;
  fuzz) wanted="$build $fuzz" ;;
  coverage) wanted="$build $fuzz $coverage" ;;
  bare) wanted="$build $package $lab $test $bare" ;;
  kernel) wanted="$build $lab $test $kernel" ;;
  bench) wanted="$build $lab $test $bench" ;;
  *) echo "usage: $0 build|package|demo|test|fuzz|coverage|bare|kernel|bench" >&2; exit 2 ;;
esac

PATH="$PATH:/usr/sbin:/sbin"
if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
  echo "lb4 needs Node.js 20.19 or newer, with npm (https://nodejs.org)" >&2
  exit 1
fi
node -e 'const [a, b] = process.versions.node.split(".").map(Number);
if (a < 20 || (a === 20 && b < 19)) { console.error(`lb4 needs Node.js 20.19 or newer; this is ${process.version}`); process.exit(1); }'

is_there() {
  case $1 in
    /*)
      # shellcheck disable=SC2086 # a pattern, of which one is enough
      set -- $1
      [ -e "$1" ]
      ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

# missing_of PAIR…: the packages of those that are not there
missing_of() {
  missing=''
  for pair in "$@"; do
    if is_there "${pair%%:*}"; then continue; fi
    case "$missing " in *" ${pair#*:} "*) ;; *) missing="$missing ${pair#*:}" ;; esac
  done
  echo "$missing"
}

# shellcheck disable=SC2086 # lists of words
missing=$(missing_of $wanted)
# shellcheck disable=SC2086
extra=$(missing_of $optional)
if [ -n "$extra" ]; then
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then missing="$missing$extra"
  else echo "without$extra, which compile the fast path, lb4 is built without it" >&2; fi
fi
if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "please install:$missing" >&2
    exit 1
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "installing Debian packages needs root: sudo apt-get install$missing" >&2
    exit 1
  fi
  scripts/quietly.sh 'asking for Debian packages' scripts/again.sh apt-get update
  # in a subshell, whose end takes the ban away again
  (
    forbid_services
    # Another apt may be at work, and is waited for; what a list names may be gone from a mirror by now, so the next try has new ones.
    # shellcheck disable=SC2016,SC2086 # the inner shell's; a list of words
    scripts/quietly.sh "installing Debian packages:$missing" scripts/again.sh \
      sh -c 'apt-get install -y -oDPkg::Lock::Timeout=300 --no-install-recommends "$@" || { status=$?; apt-get update; exit $status; }' sh $missing
  )
  for service in $services; do
    case "$missing " in *" $service "*) disable_service "$service" ;; esac
  done
fi

if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  # Not `npm ci`: it refuses a lock file that lacks other platforms' optional packages, and a registry that mirrors only
  # this platform's (as where lb4 is built) makes just such a lock file. The versions are the lock file's all the same.
  # No scripts: those of the packages of `io = "pcap"` compile, below. Node's headers are among the packages.
  scripts/quietly.sh 'installing npm packages' scripts/again.sh npm install --no-save --no-audit --no-fund --ignore-scripts
  touch node_modules/.package-lock.json
fi

# Those of `io = "pcap"` are optional, and built only where they are tested. They need Node's
# own headers, too. Without them that test is skipped, and says so.
case "$wanted" in
  *libpcap-dev*)
    tried=node_modules/.pcap-tried
    if [ ! -e "$tried" ] || [ node_modules/.package-lock.json -nt "$tried" ]; then
      node -e "require('cap'), require('raw-socket')" >/dev/null 2>&1 ||
        scripts/quietly.sh 'building the packages for libpcap' \
          sh -c 'npm rebuild --ignore-scripts=false cap raw-socket >/dev/null 2>&1 || true'
      touch "$tried"
    fi
    ;;
esac
