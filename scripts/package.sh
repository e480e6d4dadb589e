#!/bin/sh
# Makes what lb4 is installed from, in build/package, out of what `make build` has made:
#   lb4-VERSION.tgz         for npm install -g, with the addon for every processor of packages
#   lb4_VERSION_ARCH.deb    for each of them, with unit, manual page, completion and /etc/lb4/lb4.toml
# The same sources make the same bytes: times are SOURCE_DATE_EPOCH, or the last commit's.
set -eu
cd "$(dirname "$0")/.."
umask 022
archs='x64 arm64'
out=build/package
version=$(node -p 'require("./package.json").version')
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH

scripts/build-bpf.sh --package
# shellcheck disable=SC2086 # a list of words
scripts/build-addon.sh $archs

# ---- the npm package -----------------------------------------------------------------------------------------------

# put DIRECTORY FILE…: with their paths
put() {
  directory=$1
  shift
  mkdir -p "$directory"
  cp -R --parents "$@" "$directory/"
}

rm -rf "$out"
npm=$out/npm
put "$npm" bin dist/bundle iptables dashboard contrib docs lb4.toml README.md CHANGELOG.md LICENSE
for object in native/bpf/*.o; do
  if [ -e "$object" ]; then put "$npm" "$object"; fi
done
cp -R build/prebuilds "$npm/"
cp dist/THIRD-PARTY.md "$npm/"
node scripts/package-json.js >"$npm/package.json"
npm pack --silent --ignore-scripts --pack-destination "$out" "./$npm" >/dev/null
echo "$out/lb4-$version.tgz"

# ---- Debian packages -----------------------------------------------------------------------------------------------

# install_file MODE FILE DIRECTORY [NAME]
install_file() { install -D -m "$1" "$2" "$3/${4:-$(basename "$2")}"; }

# completion SHELL FILE
completion() {
  mkdir -p "$(dirname "$2")"
  bin/lb4 completion "$1" >"$2"
}

for arch in $archs; do
  case $arch in x64) debian=amd64 ;; *) debian=$arch ;; esac
  root=$out/$debian
  lib=$root/usr/lib/lb4
  share=$root/usr/share
  mkdir -p "$lib" "$root/DEBIAN" "$root/usr/bin"
  cp -R "$npm/bin" "$npm/dist" "$npm/iptables" "$npm/dashboard" "$npm/package.json" "$lib/"
  chmod 755 "$lib"/iptables/*.sh
  chmod 644 "$lib"/iptables/common.sh "$lib"/iptables/tunnel.sh # parts of the others
  if [ -e "$npm/native" ]; then cp -R "$npm/native" "$lib/"; fi
  install_file 644 "build/prebuilds/linux-$arch/lb4.node" "$lib/prebuilds/linux-$arch"
  for name in lb4 lb4-service; do ln -s "../lib/lb4/bin/$name" "$root/usr/bin/$name"; done
  install_file 644 lb4.toml "$root/etc/lb4"
  install_file 644 contrib/debian/default "$root/etc/default" lb4
  install_file 644 contrib/systemd/lb4.service "$root/usr/lib/systemd/system"
  install_file 644 docs/lb4.8 "$share/man/man8"
  gzip -9n "$share/man/man8/lb4.8"
  ln -s lb4.8.gz "$share/man/man8/lb4-service.8.gz"
  completion bash "$share/bash-completion/completions/lb4"
  completion zsh "$share/zsh/vendor-completions/_lb4"
  completion fish "$share/fish/vendor_completions.d/lb4.fish"
  doc=$share/doc/lb4
  for file in docs/*.md docs/*.svg README.md CHANGELOG.md; do install_file 644 "$file" "$doc"; done
  cp -R contrib/grafana contrib/prometheus "$doc/"
  {
    printf 'lb4 (%s) unstable; urgency=medium\n\n  * What is new is in CHANGELOG.md.\n\n' "$version"
    printf ' -- %s  %s\n' "$(sed -n 's/^Maintainer: //p' contrib/debian/control)" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
  } | gzip -9n >"$doc/changelog.gz"
  cat LICENSE dist/THIRD-PARTY.md >"$doc/copyright"
  install_file 644 contrib/debian/lintian-overrides "$share/lintian/overrides" lb4
  for script in postinst prerm postrm; do install_file 755 "contrib/debian/$script" "$root/DEBIAN"; done
  (cd "$root" && find etc -type f | sort | sed 's,^,/,') >"$root/DEBIAN/conffiles"
  (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
  sed -e "s/@VERSION@/$version/; s/@ARCH@/$debian/; s/@SIZE@/$(du -k -s --apparent-size "$root" | cut -f1)/" contrib/debian/control >"$root/DEBIAN/control"
  # shellcheck disable=SC2086 # a word
  dpkg-deb --root-owner-group -Zxz --build "$root" "$out/lb4_${version}_$debian.deb" >/dev/null
  echo "$out/lb4_${version}_$debian.deb"
done
