#!/bin/sh
# The addon as it goes into packages, build/prebuilds/linux-ARCH/lb4.node: of this processor's kind what `make build` has made and the tests
# have run, of others by Debian's cross compiler. Stripped. Says which glibc each needs, and fails where that is more than is promised.
#
#   build-addon.sh ARCH…   as Node calls them: x64, arm64
set -eu
cd "$(dirname "$0")/.."

# What docs/operations.md and src/io/native.ts say.
promised=2.34

for arch in "$@"; do
  case $arch in
    x64) processor=x86_64 ;;
    arm64) processor=aarch64 ;;
    *) echo "$0: no packages for $arch; there are: x64, arm64" >&2; exit 2 ;;
  esac
  if [ "$processor" = "$(uname -m)" ]; then
    built=build strip=strip
  else
    built=build/cross/$arch strip=$processor-linux-gnu-strip
    CXX=$processor-linux-gnu-g++ scripts/quietly.sh "building the addon for $arch" npx --no-install cmake-js compile -d native -O "$built" \
      --arch "$arch" --CDCMAKE_SYSTEM_NAME=Linux --CDCMAKE_SYSTEM_PROCESSOR="$processor"
  fi
  addon=build/prebuilds/linux-$arch/lb4.node
  mkdir -p "$(dirname "$addon")"
  "$strip" --strip-unneeded -o "$addon" "$built/Release/lb4.node"
  # readelf reads every processor's
  needed=$(readelf --version-info "$addon" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
  if [ "$(printf '%s\n' "$needed" "$promised" | sort -V | tail -n 1)" != "$promised" ]; then
    echo "the addon for $arch needs glibc $needed, and $promised is promised: build packages on Debian 12" >&2
    exit 1
  fi
  echo "linux-$arch: glibc $needed or later"
done
