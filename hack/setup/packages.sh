#!/usr/bin/env bash
# Which of Debian's packages must be installed: `build` for what the build and the
# demo need, otherwise all of them.
set -euo pipefail
. hack/env.sh
. hack/setup/lib.sh

# What a Rust program with a C library in it is built from, and the demo's image.
build=(gcc libc6-dev make pkg-config libseccomp-dev busybox-static python3 binutils file util-linux ca-certificates)
# patchelf: a newer suite's crun; cpio and e2fsprogs: the guest's disks; strace and
# hyperfine: looking at calls and at times.
rest=(patchelf cpio e2fsprogs kmod strace hyperfine qemu-system-x86 seabios procps iproute2 jq libcap2-bin diffutils)

case ${1:-all} in
build) installed "${build[@]}" ;;
*) installed "${build[@]}" "${rest[@]}" ;;
esac
