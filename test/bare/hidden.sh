#!/bin/sh
# What demo.sh does, for a host that cannot have a Debian of its own: `make demo` on this host, every command hidden that
# scripts/install-deps.sh knows, and python3 and git. A stand-in for apt-get brings back those of the packages that it is asked for and
# of what they depend on. In mount and process namespaces of its own, as demo.sh.
set -eu
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/../.."

root=${XDG_CACHE_HOME:-$HOME/.cache}/lb4/bare/root
mkdir -p "$root"
mount -t tmpfs -o mode=755 lb4-bare "$root"
# Names hold process numbers, and other runs of the tests sweep away those of processes that they do not see.
mkdir -p /run/netns
for directory in /tmp /run/netns; do mount -t tmpfs -o mode=1777 lb4-bare "$directory"; done
mkdir "$root/lb4"
tar --exclude=./node_modules --exclude=./build --exclude=./dist --exclude=./.git -cf - . | tar -C "$root/lb4" -xf -

# COMMAND:PACKAGE of all targets, but for what every Debian has, and make.
pairs=$(sed -n "/^[a-z]*='/,/'\$/p" scripts/install-deps.sh | tr "' =" '\n' | grep '^[^/]*:' | grep -v -e ':util-linux$' -e ':mount$' -e '^make:')
: >"$root/nothing"
: >"$root/hidden"
for pair in $pairs python3:python3 git:git; do
  file=$(command -v "${pair%%:*}") || continue
  file=$(readlink -f "$file")
  if grep -qx "$file" "$root/hidden"; then continue; fi
  echo "$file" >>"$root/hidden"
done
while read -r file; do mount --bind "$root/nothing" "$file"; done <"$root/hidden"

cat >"$root/apt-get" <<EOF
#!/bin/sh
set -eu
[ "\$1" = install ] || exit 0
for word in "\$@"; do case \$word in install | -*) ;; *) set -- "\$@" "\$word" ;; esac; shift; done
apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "\$@" |
  sed -n 's/^\([a-z0-9]\)/\1/p' | sort -u >"$root/packages"
while read -r file; do
  for name in "\$file" "\${file#/usr}"; do
    owner=\$(dpkg -S "\$name" 2>/dev/null | sed 's/:.*//') || continue
    if grep -qx "\$owner" "$root/packages"; then umount "\$file" && echo "\$file is back"; fi
  done
done <"$root/hidden"
EOF
chmod +x "$root/apt-get"
mount --bind "$root/apt-get" "$(readlink -f "$(command -v apt-get)")"

exec env -u MAKEFLAGS PATH="$(dirname "$(command -v node)"):/usr/local/bin:/usr/bin:/bin" make -C "$root/lb4" --no-print-directory demo
