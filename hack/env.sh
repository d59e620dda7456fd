# Where everything is that a build, a test or the demo needs. Sourced, by sh or bash:
#
#     . hack/env.sh && cargo test -p rsrun-tests --test e2e
#
# What a caller has set stays; the names below are the whole contract between
# hack/ and the suites, natively and in the virtual machine alike.
#
#   RSRUN_CACHE           what `make setup` fetched and built; shared by every
#                         checkout of one machine when /var/cache can be written
#   RSRUN_CONTAINERD_DIR  holds 1.6 1.7 2.4, each with bin/{containerd,ctr,containerd-shim-runc-v2}
#   RSRUN_RUNC_DIR        holds 1.1/runc (Debian 12's) and 1.6/runc (the newest)
#   RSRUN_CRUN            the newest crun
#   RSRUN_IMAGE           busybox.tar, an OCI archive for `ctr image import`
#   RSRUN_ROOTFS          the same image as a directory, for bundles; never write into it
#   RSRUN_BIN             containerd-shim-rsrun-v2 and rsrun as users get them
#   RSRUN_KERNEL          the virtual machine's kernel tree (vmlinuz, modules)

if [ -z "${RSRUN_SOURCE:-}" ]; then
    # Found without bash's own means: make's shell is dash.
    RSRUN_SOURCE=$(git rev-parse --show-toplevel 2>/dev/null || pwd)
fi

if [ -z "${RSRUN_CACHE:-}" ]; then
    if mkdir -p /var/cache/rsrun 2>/dev/null && [ -w /var/cache/rsrun ]; then
        RSRUN_CACHE=/var/cache/rsrun
    else
        RSRUN_CACHE=$RSRUN_SOURCE/.cache
    fi
fi

: "${RSRUN_CONTAINERD_DIR:=$RSRUN_CACHE/containerd}"
: "${RSRUN_RUNC_DIR:=$RSRUN_CACHE/runc}"
: "${RSRUN_CRUN:=$RSRUN_CACHE/crun/crun}"
: "${RSRUN_IMAGE:=$RSRUN_CACHE/image/busybox.tar}"
: "${RSRUN_ROOTFS:=$RSRUN_CACHE/image/rootfs}"
: "${RSRUN_KERNEL:=$RSRUN_CACHE/kernel/6.1}"
: "${RSRUN_TARGET:=$(uname -m)-unknown-linux-gnu}"
: "${RSRUN_BIN:=${CARGO_TARGET_DIR:-$RSRUN_SOURCE/target}/$RSRUN_TARGET/release}"

export RSRUN_SOURCE RSRUN_CACHE RSRUN_CONTAINERD_DIR RSRUN_RUNC_DIR RSRUN_CRUN \
    RSRUN_IMAGE RSRUN_ROOTFS RSRUN_KERNEL RSRUN_TARGET RSRUN_BIN
