#!/usr/bin/env bash
# Brings the containerd versions that rsrun is run against: 1.6 (Debian 12), 1.7
# (Debian 13) and 2.4 (the newest, from its Go module; it starts shims in the new
# way only). Each has bin/{containerd,ctr,containerd-shim-runc-v2}; none is
# installed in the system, no service is started.
#
#     hack/setup.sh containerd           all three
#     hack/setup/containerd.sh demo      one is enough: the quickest to have
set -euo pipefail
. hack/env.sh
. hack/setup/lib.sh

NEWEST=v2.4.2

# from_debian SUITE INTO. Debian 13's is linked against nothing newer than glibc
# 2.34 has, so it runs on Debian 12 as it is.
from_debian() {
    local suite=$1 into=$2
    unpacked_alone "$suite" "$into/debian" containerd
    mkdir "$into/bin"
    mv "$into/debian/usr/bin/"{containerd,ctr,containerd-shim-runc-v2} "$into/bin/"
    rm -rf "$into/debian"
    "$into/bin/containerd" --version > /dev/null
}

# Built like its own releases of the shim: without cgo, so static.
from_module() {
    local version=$1 into=$2 go module=github.com/containerd/containerd/v2
    go=$(hack/setup/go.sh)
    GOBIN=$into/bin CGO_ENABLED=0 GOFLAGS=-trimpath GOTOOLCHAIN=local "$go" install -ldflags "-s -w -X $module/version.Version=${version#v}" \
        "$module/cmd/containerd@$version" "$module/cmd/ctr@$version" "$module/cmd/containerd-shim-runc-v2@$version"
}

if [ "${1:-}" = demo ] && [ -x "$RSRUN_CONTAINERD_DIR/2.4/bin/containerd" ]; then exit 0; fi
once containerd/1.6 bookworm from_debian bookworm
if [ "${1:-}" = demo ]; then exit 0; fi
once containerd/1.7 trixie from_debian trixie
once containerd/2.4 "$NEWEST" from_module "$NEWEST"
