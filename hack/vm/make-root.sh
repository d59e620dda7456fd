#!/usr/bin/env bash
# Makes the guest's root disk: make-root.sh OUT. It has the tools that tests and
# people call, with the libraries they load, the modules, and everything below
# RSRUN_CACHE that the suites run against, at the same paths as here.
set -euo pipefail
. hack/env.sh
out=$1

# Packages whose every command is there: a list of commands would be short of one
# with each new test.
packages=(bash dash coreutils util-linux mount util-linux-extra procps iproute2 findutils grep sed mawk tar gzip
    diffutils file hostname e2fsprogs kmod libcap2-bin strace jq hyperfine libc-bin)

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
for file in $(dpkg -L "${packages[@]}" 2>/dev/null | grep -E '^/(usr/)?s?bin/.' | sort -u) /usr/bin/awk /bin/sh; do
    [ -x "$file" ] || continue
    place "$file"
    binaries+=("$file")
done
for file in "$RSRUN_CACHE"/apparmor/sbin/apparmor_parser; do
    cp "$file" "$root/usr/sbin/"
    binaries+=("$file")
done
for library in $(libraries "${binaries[@]}" "$RSRUN_CONTAINERD_DIR"/*/bin/* "$RSRUN_RUNC_DIR"/*/runc); do
    # A library is found by the name that is asked for, so links stay links.
    place "$(realpath -s "$library" | sed 's#^/lib#/usr/lib#')"
done
# What the C library opens by itself, without being linked to it.
for library in libnss_files.so.2 libgcc_s.so.1; do
    for file in /usr/lib/*-linux-gnu/$library; do place "$file"; done
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
