#!/bin/sh
# For demo.sh and packages.sh, which read it: a Debian 12 on which nothing is installed but make, and this host's Node.js and npm, in $root;
# and `newcomer COMMAND…`, which runs a command there.
#
# bare.test.ts starts them in mount and process namespaces of their own: every mount, process and network namespace goes with those,
# however this ends. What stays on the host is the cache, ~/.cache/lb4/bare: the root as debootstrap(8) made it, packed.
#
# Exit: 75 this host cannot have such a root; the last line says why
set -eu
PATH=$PATH:/usr/sbin:/sbin

release=bookworm
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lb4/bare
pristine=$cache/$release.tar
root=$cache/root

lacking() {
  echo "$*"
  exit 75
}

# ---- the root ------------------------------------------------------------------------------------------------------

# Where this host gets its Debian from, or everybody's.
mirror() {
  # shellcheck disable=SC2016 # apt's own variables
  site=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(SITE)' 2>/dev/null | sed -n "s/^$release main //p" | head -n 1)
  echo "${site:-http://deb.debian.org/debian}"
}

# make_pristine: a whole one or none, should it be ended in between. (debootstrap takes a minute, unpacking a second.)
make_pristine() {
  command -v debootstrap >/dev/null || lacking 'debootstrap is not installed (scripts/install-deps.sh bare)'
  debootstrap --variant=minbase --include=make "$release" "$root" "$(mirror)" >"$cache/debootstrap.log" 2>&1 ||
    lacking "debootstrap failed: $(tail -n 1 "$cache/debootstrap.log") (all of it: $cache/debootstrap.log)"
  rm -f "$cache/debootstrap.log" "$root"/var/cache/apt/archives/*.deb
  tar -C "$root" --one-file-system -cf "$pristine.new" .
  mv "$pristine.new" "$pristine"
}

mkdir -p "$root"
exec 9>"$cache/lock"
flock 9 # one makes it, the others wait
rm -f "$pristine.new"
mount -t tmpfs -o mode=755 lb4-bare "$root" || lacking 'no file system may be mounted here'
if [ -e "$pristine" ]; then tar -C "$root" -xf "$pristine"; else make_pristine; fi
exec 9>&-
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"

# ---- how this host reaches its registries --------------------------------------------------------------------------

# carry FILE…: to the same place, links followed; what there is of them
carry() {
  for file in "$@"; do
    [ -e "$file" ] || continue
    mkdir -p "$root$(dirname "$file")"
    cp -RL "$file" "$root$(dirname "$file")/"
  done
}

carry /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt
if grep -q "^VERSION_CODENAME=$release" /etc/os-release; then
  rm -f "$root/etc/apt/sources.list"
  carry /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/apt/trusted.gpg.d /etc/apt/keyrings
  carry /usr/share/keyrings
fi
# Proxies and the like, not the hooks of what else is installed here.
apt-config dump 2>/dev/null | grep '^Acquire::' >"$root/etc/apt/apt.conf.d/00host" || true

npm config get userconfig globalconfig cafile >"$root/tmp/npm"
npm_key() { sed -n "s/^$1 *= *//p" "$root/tmp/npm"; }
mkdir -p "$root/usr/local/etc"
[ ! -e "$(npm_key userconfig)" ] || cp "$(npm_key userconfig)" "$root/root/.npmrc"
[ ! -e "$(npm_key globalconfig)" ] || cp "$(npm_key globalconfig)" "$root/usr/local/etc/npmrc"
carry "$(npm_key cafile)" "${NODE_EXTRA_CA_CERTS:-}"

# ---- Node.js, npm and the checkout ---------------------------------------------------------------------------------

npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
mkdir -p "$root/usr/local/lib/node_modules"
cp "$(node -p process.execPath)" "$root/usr/local/bin/node"
cp -R "$npm" "$root/usr/local/lib/node_modules/npm"
for tool in npm npx; do ln -s "../lib/node_modules/npm/bin/$tool-cli.js" "$root/usr/local/bin/$tool"; done
chroot "$root" node --version >/dev/null 2>&1 || lacking 'Node.js as it is installed here does not run on a bare Debian'

# ---- as a newcomer would -------------------------------------------------------------------------------------------

# kept NAME…: NAME=VALUE of those that are set
kept() {
  for name in "$@"; do printenv "$name" | sed "s|^|$name=|"; done
}

# The PATH of `su`, without sbin. No MAKEFLAGS, no npm_config_*: make and npx may have started this.
newcomer() {
  # shellcheck disable=SC2046 # one word a variable
  env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root TERM=dumb \
    $(kept http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY NODE_EXTRA_CA_CERTS npm_config_registry) \
    "$(command -v chroot)" "$root" "$@"
}
