#!/usr/bin/env bash
# A containerd of its own, beside whatever runs on this machine:
#
#     hack/containerd.sh VERSION start      1.6, 1.7 or 2.4
#     hack/containerd.sh VERSION ctr ARG…   its own ctr, talking to it
#     hack/containerd.sh VERSION stop       ends it and what runs in it
#
# Root, state and socket are below RSRUN_CONTAINERD_HOME (/run/rsrun-containerd-VERSION).
# It finds containerd-shim-rsrun-v2 in RSRUN_BIN and runc in RSRUN_RUNC_DIR. On a
# machine whose controllers are on cgroup v1 it gets a unified tree in a mount
# namespace of its own: everything works there but limits.
set -euo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

version=${1:?VERSION} what=${2:?start, ctr or stop}
shift 2
bin=$RSRUN_CONTAINERD_DIR/$version/bin
home=${RSRUN_CONTAINERD_HOME:-/run/rsrun-containerd-$version}
address=$home/containerd.sock
[ -x "$bin/containerd" ] || { echo "containerd $version is not in $RSRUN_CONTAINERD_DIR: run hack/setup.sh containerd" >&2; exit 1; }

ctr() { "$bin/ctr" --address "$address" "$@"; }

config() {
    # What is switched off needs a network, a kubelet or a daemon that isn't there.
    case $version in
    1.*) echo 'version = 2'
        echo 'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]' ;;
    *) echo 'version = 3'
        echo 'disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]' ;;
    esac
    cat <<CONFIG
root = "$home/root"
state = "$home/state"
[grpc]
  address = "$address"
[ttrpc]
  address = "$address.ttrpc"
[debug]
  level = "${RSRUN_CONTAINERD_LOG:-info}"
CONFIG
}

start() {
    local n
    if [ -f "$home/pid" ] && kill -0 "$(cat "$home/pid")" 2>/dev/null; then return; fi
    mkdir -p "$home"
    config > "$home/config.toml"
    PATH=$RSRUN_BIN:$bin:$RSRUN_RUNC_DIR/1.6:$RSRUN_RUNC_DIR/1.1:$(dirname "$RSRUN_CRUN"):$PATH \
        setsid unshare --mount --propagation slave bash -c '
        if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
            umount -R /sys/fs/cgroup
            mount -t cgroup2 cgroup2 /sys/fs/cgroup
        fi
        echo $$ > "$1/pid"
        exec "$2" --config "$1/config.toml"' - "$home" "$bin/containerd" > "$home/log" 2>&1 < /dev/null &
    for n in $(seq 300); do
        if ctr version > /dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "containerd $version did not come up; its last words:" >&2
    tail -20 "$home/log" >&2
    exit 1
}

stop() {
    local ns task pid
    [ -f "$home/pid" ] || return 0
    pid=$(cat "$home/pid")
    if kill -0 "$pid" 2>/dev/null; then
        for ns in $(ctr namespaces ls -q 2>/dev/null); do
            for task in $(ctr -n "$ns" tasks ls -q); do ctr -n "$ns" tasks rm -f "$task" > /dev/null 2>&1 || true; done
            for task in $(ctr -n "$ns" containers ls -q); do ctr -n "$ns" containers rm "$task" > /dev/null 2>&1 || true; done
        done
        kill "$pid"
        timeout 20 tail --pid="$pid" -f /dev/null || kill -9 "$pid"
    fi
    # Its namespace went with it, and the mounts in it.
    rm -rf "$home"
}

case $what in
start) start ;;
stop) stop ;;
ctr) ctr "$@" ;;
*) echo "hack/containerd.sh VERSION start|ctr|stop" >&2 && exit 2 ;;
esac
