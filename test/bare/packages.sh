#!/bin/sh
# Installs lb4 from build/package where root.sh has it that nothing is installed, as its users do, and says so in its last line. The root is
# there for as long as this process is.
#
#   packages.sh npm | deb
#
# Exit: apt-get's or npm's own · 75 this host cannot have such a root; the last line says why
set -eu
cd "$(dirname "$0")/../.."
. test/bare/root.sh

version=$(node -p 'require("./package.json").version')
if [ ! -e "build/package/lb4-$version.tgz" ]; then
  # On a host that can make it, that is a mistake.
  echo 'there is no package in build/package (make package)'
  other=aarch64
  [ "$(uname -m)" != aarch64 ] || other=x86_64
  if command -v "$other-linux-gnu-g++" >/dev/null; then exit 1; else exit 75; fi
fi

# again COMMAND…: up to three times, since a mirror or a registry may fail for a moment
again() { "$@" || { sleep 3 && "$@"; } || { sleep 15 && "$@"; }; }

again newcomer apt-get -q update
case $1 in
  npm)
    cp "build/package/lb4-$version.tgz" "$root/tmp/lb4.tgz"
    again newcomer npm install --global --ignore-scripts --no-audit --no-fund /tmp/lb4.tgz
    # what the packet modes want beside it (docs/operations.md), and what `lb4 install` does
    again newcomer apt-get -q install -y --no-install-recommends iptables nftables systemd
    ;;
  deb)
    # A package of Node.js, which Debian 12 has too old, made of this host's
    node=$root/tmp/nodejs
    mkdir -p "$node/DEBIAN" "$node/usr/bin"
    mv "$root/usr/local/bin/node" "$node/usr/bin/node"
    rm -rf "$root/usr/local/bin/npm" "$root/usr/local/bin/npx" "$root/usr/local/lib/node_modules"
    printf '%s\n' 'Package: nodejs' "Version: $(node -p process.versions.node)" "Architecture: $(dpkg --print-architecture)" \
      'Maintainer: nobody <nobody@localhost>' 'Description: Node.js of the host that tests' >"$node/DEBIAN/control"
    dpkg-deb -Znone --build "$node" "$root/tmp/nodejs.deb" >/dev/null
    cp "build/package/lb4_${version}_$(dpkg --print-architecture).deb" "$root/tmp/lb4.deb"
    # systemd: for the unit
    again newcomer apt-get -q install -y --no-install-recommends /tmp/nodejs.deb /tmp/lb4.deb iptables nftables libbpf1 systemd
    ;;
esac
# what tests write for lb4
mount --bind /tmp "$root/tmp"
echo "installed in $root"
# Ended by whoever started it.
exec sleep infinity
