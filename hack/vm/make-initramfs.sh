#!/usr/bin/env bash
# Packs the guest's first file system: make-initramfs.sh KERNEL-TREE OUT. It has
# busybox and the few modules with which the root disk can be mounted.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$1 out=$2
version=$(basename "$tree"/lib/modules/*)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,dev,proc,sys,root,modules}
cp /bin/busybox "$work/bin/busybox"
cp "$here/first-init" "$work/init"
# In the order in which they must be loaded, whatever this kernel's dependencies are.
for module in virtio_mmio virtio_pci virtio_blk virtio_console ext4; do
    modprobe -d "$tree" -S "$version" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
    name=$(basename "${module%.xz}")
    case $module in
    *.xz) xz -dc "$module" > "$work/modules/$name" ;;
    *) cp "$module" "$work/modules/$name" ;;
    esac
    echo "$name" >> "$work/modules/order"
done
(cd "$work" && find . | cpio --quiet -o -H newc) > "$out"
