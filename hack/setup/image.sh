#!/usr/bin/env bash
# Makes the image that containers are made of, without a network: busybox.tar for
# `ctr image import` and the same files as a directory for bundles.
set -euo pipefail
. hack/env.sh
. hack/setup/lib.sh

both() {
    python3 hack/image/make-image.py /bin/busybox "$1/busybox.tar" "$1/rootfs"
}

installed busybox-static python3
version=$(cat hack/image/make-image.py /bin/busybox | sha256sum | cut -c1-16)
once image "$version" both
