#!/usr/bin/env bash
# Prepares what the virtual machine boots: a kernel of Debian's and two disks, the
# guest's root (its tools, every containerd, runc, crun, the image) and a first
# file system that finds it. See hack/vm/run.
#
#     hack/setup.sh vm                Debian 12's kernel
#     hack/setup/vm.sh 6.12 [7.2]     others, for RSRUN_KERNEL=$RSRUN_CACHE/kernel/6.12
set -euo pipefail
. hack/env.sh
. hack/setup/lib.sh

# kernel VERSION INTO. The uncompressed kernel is taken out of its package: an
# emulated processor needs many seconds to unpack it at every boot.
kernel() {
    local version=$1 into=$2 suite image
    case $version in
    6.1) suite=bookworm ;;
    6.12) suite=trixie ;;
    7.2) suite=sid ;;
    *) die "no Debian suite is known to have kernel $version" ;;
    esac
    in_suite "$suite" fetch_kernel "$into/debian"
    image=$(echo "$into"/debian/boot/vmlinuz-*)
    python3 hack/vm/extract-vmlinux.py "$image" "$into/vmlinux"
    mkdir -p "$into/lib/modules"
    mv "$into"/debian/*lib/modules/* "$into/lib/modules/" 2>/dev/null || mv "$into"/debian/usr/lib/modules/* "$into/lib/modules/"
    rm -rf "$into/debian"
    hack/vm/prune-modules.sh "$into/lib/modules/"*
    depmod -b "$into" "$(basename "$into"/lib/modules/*)"
    hack/vm/make-initramfs.sh "$into" "$into/initramfs"
}

# The metapackage names the package.
fetch_kernel() {
    fetch_alone "$1" "$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -1)"
}

# Only its parser, for the guest: installed here, it would start a service.
apparmor() { unpacked_alone bookworm "$1" apparmor; }

installed cpio kmod e2fsprogs qemu-system-x86 seabios python3 busybox-static
once apparmor bookworm apparmor
[ $# -gt 0 ] || set -- 6.1
for version; do
    once "kernel/$version" "$(cat hack/setup/vm.sh hack/vm/{extract-vmlinux.py,prune-modules.sh,make-initramfs.sh} | sha256sum | cut -c1-16)" kernel "$version"
done
