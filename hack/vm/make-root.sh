#!/usr/bin/env bash
# Makes the guest's root disk: make-root.sh OUT. It has the tools that tests and
# people call, with the libraries they load, the modules, and everything below
# RSRUN_CACHE that the suites run against, at the same paths as here.
set -euo pipefail
. hack/env.sh
out=$1

tools=(bash sh env cat cp mv ln ls mkdir mkfifo mknod rm rmdir chmod chown touch stat readlink realpath
    head tail sort uniq tr wc cut seq tee dd df du date sleep sync timeout true false id whoami
    sha256sum md5sum printf basename dirname nproc uname mktemp truncate test expr yes nohup stdbuf
    grep sed awk find xargs tar gzip diff cmp file
    mount umount mountpoint findmnt losetup unshare nsenter setpriv lsns prlimit taskset ionice
    chrt flock setsid script dmesg hostname blkid swapon swapoff mkswap fallocate
    ps kill pgrep pkill top free sysctl ip modprobe insmod lsmod
    mkfs.ext4 mke2fs strace jq hyperfine getent getcap setcap capsh apparmor_parser)

root=$(mktemp -d -p "$RSRUN_CACHE")
trap 'rm -rf "$root"' EXIT

mkdir -p "$root"/{dev,proc,sys,run,tmp,root,home,mnt,srv,opt,etc,usr/{bin,sbin,lib,lib64,local/bin},var/{lib,log,tmp}}
chmod 1777 "$root/tmp" "$root/var/tmp"
for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done

# place FILE: FILE at its own path, its links followed to what they mean.
place() {
    local real
    real=$(realpath "$1")
    mkdir -p "$root$(dirname "$real")" "$root$(dirname "$1")"
    [ -e "$root$real" ] || cp -a "$real" "$root$real"
    [ -e "$root$1" ] || ln -s "$real" "$root$1"
}

libraries() { ldd "$@" 2>/dev/null | awk '/=> \// { print $3 } $1 ~ /^\// && $1 !~ /:$/ { print $1 }' | sort -u; }

binaries=()
for tool in "${tools[@]}"; do
    path=$(type -P "$tool") || continue
    place "$path"
    binaries+=("$path")
done
for library in $(libraries "${binaries[@]}" "$RSRUN_CONTAINERD_DIR"/*/bin/* "$RSRUN_RUNC_DIR"/*/runc) \
    /usr/lib/x86_64-linux-gnu/libnss_files.so.2 /usr/lib/x86_64-linux-gnu/libgcc_s.so.1; do
    # A library is found by the name that is asked for, so links stay links.
    place "$(realpath -s "$library" | sed 's#^/lib#/usr/lib#')"
done
cp /bin/busybox "$root/usr/bin/busybox"

printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\nuser:x:1000:1000::/home:/bin/sh\n' > "$root/etc/passwd"
printf 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\nuser:x:1000:\n' > "$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files\n' > "$root/etc/nsswitch.conf"
printf '127.0.0.1 localhost\n' > "$root/etc/hosts"
cp /etc/os-release "$root/etc/os-release"
: > "$root/etc/machine-id"
ln -s /proc/self/mounts "$root/etc/mtab"
install -m 755 hack/vm/init "$root/usr/sbin/init"

for part in "$RSRUN_CONTAINERD_DIR" "$RSRUN_RUNC_DIR" "$(dirname "$RSRUN_CRUN")" "$(dirname "$RSRUN_IMAGE")"; do
    mkdir -p "$root$part"
    cp -a "$part/." "$root$part/"
done
cp -a "$RSRUN_KERNEL/lib/modules" "$root/usr/lib/modules"

size=$(($(du -sm "$root" | cut -f1) + 700))
truncate -s "${size}M" "$out"
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1,root_owner=0:0 -m 0 -d "$root" "$out"
