#!/bin/sh
# Boots the systemd that is installed in a root, as a container does: with process, mount and control group namespaces of its own, all of which
# end with it. Its network namespace is the one that this is started in.
#
#   boot.sh ROOT GROUP HIERARCHY…   GROUP is made in each of the hierarchies (mount points), and stays. The host's systemd and what it makes there are not seen
set -eu
root=$1 group=$2
shift 2
for hierarchy in "$@"; do
  mkdir -p "$hierarchy/$group"
  echo $$ >"$hierarchy/$group/cgroup.procs"
done

# what comes next runs as the first process of the namespaces
# shellcheck disable=SC2016
inside='
set -eu
root=$1
shift
umount "$root/tmp" "$root/proc" "$root/sys"
mount -t sysfs sysfs "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 lb4-bare "$root/run"
case " $* " in *" /sys/fs/cgroup "*) ;; *) mount -t tmpfs -o mode=755 lb4-bare "$root/sys/fs/cgroup" ;; esac
for hierarchy in "$@"; do
  # It mounts all others by itself.
  case $hierarchy in
    */systemd) mkdir -p "$root$hierarchy" && mount -t cgroup -o none,name=systemd cgroup "$root$hierarchy" ;;
    /sys/fs/cgroup | */unified) mkdir -p "$root$hierarchy" && mount -t cgroup2 cgroup2 "$root$hierarchy" ;;
  esac
done
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lab /lib/systemd/systemd --system --unit=basic.target
'
exec unshare --pid --mount --cgroup --uts --ipc --fork --kill-child sh -c "$inside" sh "$root" "$@"
