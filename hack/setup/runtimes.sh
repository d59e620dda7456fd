#!/usr/bin/env bash
# Brings the runtimes that rsrun is compared with: runc as Debian 12 has it and the
# newest, and the newest crun.
set -euo pipefail
. hack/env.sh
. hack/setup/lib.sh

NEWEST_RUNC=v1.6.0-rc.1

old_runc() {
    local into=$1
    unpacked_alone bookworm "$into/debian" runc
    mv "$into/debian/usr/sbin/runc" "$into/runc"
    rm -rf "$into/debian"
    "$into/runc" --version > /dev/null
}

new_runc() {
    local into=$1 go
    go=$(hack/setup/go.sh)
    GOBIN=$into CGO_ENABLED=1 GOFLAGS=-trimpath GOTOOLCHAIN=local "$go" install -tags seccomp -ldflags "-s -w" \
        "github.com/opencontainers/runc@$NEWEST_RUNC"
}

# crun of sid wants a newer glibc than Debian 12's: it gets its own loader and
# libraries.
crun() {
    local into=$1
    unpacked sid "$into" crun
    mv "$into/usr/bin/crun" "$into/crun"
    borrow_libraries "$RSRUN_CACHE/crun" "$into/crun"
}

installed patchelf
once runc/1.1 bookworm old_runc
once crun sid crun
once runc/1.6 "$NEWEST_RUNC" new_runc
"$RSRUN_CRUN" --version > /dev/null
