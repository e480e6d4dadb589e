#!/bin/sh
# Makes what QEMU boots: test/kernel/image.sh OUT puts OUT/vmlinuz and OUT/initramfs there.
#
# The kernel is Debian's own (apt-get download, unpacked, never installed), kept in ~/.cache/lb4/kernel from run to run.
# The initramfs holds its network modules, busybox, this host's iproute2, iptables, nftables, node … with the shared
# libraries they need, and the built project under /lb4. It is not compressed: emulated, unpacking would cost seconds.
#
# Exit: 0 done · 1 failed · 75 something that this host cannot get is missing; the last line says what.
set -eu
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/../.."

out=${1:?usage: image.sh OUT}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lb4/kernel
tree=$out/tree

# What runs in the guest (bash: bin/lb4); busybox stands in for the rest. Its own shell would run its applets before these.
tools='sh bash ip tc bridge nft iptables iptables-save iptables-restore kmod nsenter setpriv sysctl ethtool curl tcpdump'
# bench/fou.ts needs it, no test.
if command -v iperf3 >/dev/null; then tools="$tools iperf3"; fi
# Module directories and single modules, each taken with what it depends on.
modules='net/sched net/netfilter net/ipv4/netfilter net/bridge net/8021q net/ipv4/fou.ko net/ipv4/ipip.ko net/ipv6/sit.ko drivers/net/veth.ko drivers/net/dummy.ko drivers/net/tun.ko
  drivers/virtio/virtio_pci.ko drivers/net/virtio_net.ko'

lacking() {
  echo "$*"
  exit 75
}

for tool in qemu-system-x86_64 dpkg-deb cpio depmod busybox apt-get $tools; do
  command -v "$tool" >/dev/null || lacking "$tool is not installed (scripts/install-deps.sh kernel)"
done

# ---- the kernel ----------------------------------------------------------------------------------------------------

# The package that linux-image-amd64 of Debian 12 stands for; where that cannot be had, the one from an earlier run.
package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-6\.1\.0-.*-amd64\)$/\1/p' | head -n 1)

download() {
  apt-get download -qq "$package" || { apt-get update -qq && apt-get download -qq "$package"; }
}

# fetch: unpacks $package into the cache, in the place of an older one. Of its drivers, nine tenths, those for
# networks without hardware stay, and for what QEMU has of it.
fetch() {
  fresh=$cache.new
  rm -rf "$fresh"
  mkdir -p "$fresh"
  (cd "$fresh" && download) >&2 || { rm -rf "$fresh"; return 1; }
  dpkg-deb -x "$fresh/$package"_*.deb "$fresh/$package"
  (
    cd "$fresh/$package"
    rm -rf usr boot/System.map*
    cd "lib/modules/${package#linux-image-}/kernel"
    mkdir kept
    mv drivers/net drivers/virtio kept
    rm -rf arch fs sound drivers
    mv kept drivers
    find drivers/net -mindepth 1 -type d -exec rm -rf {} +
  )
  rm -rf "$fresh"/*.deb "$cache"
  mv "$fresh" "$cache"
}

# What an earlier run has kept may have fewer drivers.
if [ -z "$package" ] || [ ! -e "$cache/$package/lib/modules/${package#linux-image-}/kernel/drivers/virtio" ] && ! fetch; then
  wanted=${package:-linux-image-6.1.0-*-amd64}
  for cached in "$cache"/linux-image-*-amd64; do package=$(basename "$cached"); done
  [ -e "$cache/$package" ] || lacking "the kernel package $wanted could not be downloaded"
fi
kernel=$cache/$package
version=${package#linux-image-}

# ---- the tree ------------------------------------------------------------------------------------------------------

# copy FILE…: to the same place in the tree, links followed. All at once here and below: starting a program is what takes time.
copy() {
  cp -L --parents "$@" "$tree"
}

# libraries FILE…: what they are linked with
libraries() {
  ldd "$@" 2>/dev/null | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' | sort -u
}

rm -rf "$out"
mkdir -p "$tree"
tree=$(realpath "$tree")
for directory in usr/bin usr/sbin usr/lib usr/lib64 dev proc sys run tmp root etc; do set -- "$@" "$tree/$directory"; done
shift
mkdir -p "$@"
for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$tree/$directory"; done
set -- "$(node -p process.execPath)" build/Release/lb4.node
for tool in $tools; do set -- "$@" "$(command -v "$tool")"; done
# shellcheck disable=SC2046 # one word a library
copy $(printf '%s\n' "$@" | grep '^/') /usr/lib/x86_64-linux-gnu/xtables/*.so $(libraries "$@" /usr/lib/x86_64-linux-gnu/xtables/*.so) /etc/protocols
[ -e "$tree/bin/node" ] || ln -s "$1" "$tree/bin/node"
cp "$(command -v busybox)" "$tree/bin/busybox"
ln -sf "$(command -v kmod)" "$tree/sbin/modprobe"
# tcpdump insists on a user of that name.
for user in root:x:0 tcpdump:x:0 nobody:x:65534; do echo "$user:${user##*:}::/root:/bin/sh"; done >"$tree/etc/passwd"
cp test/kernel/init "$tree/init"

# ---- modules -------------------------------------------------------------------------------------------------------

[ -e "$kernel/lib/modules/$version/modules.dep" ] || depmod -b "$kernel" "$version"
# shellcheck disable=SC2086 # one word a directory
wanted=$(cd "$kernel/lib/modules/$version/kernel" && find $modules -name '*.ko' | sed 's/.*\///; s/\.ko$//')
# shellcheck disable=SC2086 # one word a module
modprobe -d "$kernel" -S "$version" -a --show-depends $wanted | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u |
  xargs realpath --relative-to="$kernel" | (cd "$kernel" && xargs cp --parents -t "$tree")
cp "$kernel/lib/modules/$version"/modules.builtin* "$kernel/lib/modules/$version/modules.order" "$tree/lib/modules/$version/"
depmod -b "$tree" "$version"

# ---- the project ---------------------------------------------------------------------------------------------------

# No node_modules: dist/bundle has the libraries in it, and four thousand files take an emulated kernel seconds.
mkdir "$tree/lb4"
cp -r --parents bin dist iptables package.json package-lock.json build/Release/lb4.node test/kernel/guest "$tree/lb4/"
# The fast path and the servers' program, and what reads them (tc brings libbpf along).
for object in native/bpf/*.o; do
  if [ -e "$object" ]; then cp --parents "$object" "$tree/lb4/"; fi
done
cp "$kernel/boot/vmlinuz-$version" "$out/vmlinuz"
(cd "$tree" && find . -print0 | cpio --null --quiet --create --format=newc --owner=0:0) >"$out/initramfs"
rm -rf "$tree"
echo "$version"
