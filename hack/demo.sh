#!/usr/bin/env bash
# Shows rsrun at work to someone who sees it for the first time: builds it, starts a
# private containerd, runs containers through it and cleans up. RUNTIME chooses
# another runtime to compare with, CONTAINERD another version (1.6, 1.7, 2.4).
#
# RSRUN_PREPARED=1 leaves out installing and building (for the virtual machine).
set -euo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

runtime=${RUNTIME:-io.containerd.rsrun.v2}
image=docker.io/library/busybox:latest

bold() { printf '\n\033[1m%s\033[0m\n' "$*"; }
tell() { printf '%s\n' "$*" | fold -s -w 100; }
# Shows the command as a person would type it, then runs it.
show() {
    printf '\033[36m$ ctr %s\033[0m\n' "$*"
    ctr "$@"
}
ctr() { hack/containerd.sh "$version" ctr "$@"; }

[ "$(id -u)" = 0 ] || { echo "containers need root: run this as root" >&2; exit 1; }
[ -n "${RSRUN_PREPARED:-}" ] || make --no-print-directory demo-prepared

version=${CONTAINERD:-}
for found in 2.4 1.7 1.6; do
    [ -n "$version" ] || { [ -x "$RSRUN_CONTAINERD_DIR/$found/bin/containerd" ] && version=$found; } || true
done

# What containerd, ctr and the runtime make outside of their own directories, and nobody takes away.
cgroups=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
makes=("$cgroups/default" /run/containerd/fifo /run/containerd/s /run/containerd/rsrun /run/containerd)
news=()
for one in "${makes[@]}"; do [ -e "$one" ] || news+=("$one"); done
tidy() {
    for one in "${news[@]}"; do
        case $one in */rsrun) rm -rf "$one/@seccomp" ;; esac
        rmdir "$one" 2> /dev/null || true
    done
}

export RSRUN_CONTAINERD_HOME=${RSRUN_CONTAINERD_HOME:-/run/rsrun-demo}
trap 'hack/containerd.sh "$version" stop' EXIT

bold "1. A containerd of our own"
hack/containerd.sh "$version" stop
hack/containerd.sh "$version" start
tell "containerd $version runs with everything it keeps below $RSRUN_CONTAINERD_HOME, so a containerd that this machine may have is not touched. It finds $runtime by name: a program containerd-shim-… in its PATH is all that registering takes."

bold "2. An image, made here from busybox without a network"
show image import "$RSRUN_IMAGE"

bold "3. A container that says one thing and ends"
show run --rm --runtime "$runtime" "$image" hello echo "hi from a container"

bold "4. A container that stays"
show run --detach --runtime "$runtime" "$image" demo sh -c 'trap exit TERM; while :; do sleep 0.2; done'
show task ls
pid=$(ctr task ls | awk '$1 == "demo" { print $2 }')

bold "5. A second process in it (exec)"
said=$(show task exec --exec-id look demo sh -c 'echo "I am pid $$ on $(hostname || echo a host without a name); I see:"; ps')
printf '%s\n' "$said"
# Pid 1 is the container's own, few others are there, and the directory that we are in is not.
if ! grep -q '^ *1 .*trap exit' <<< "$said" || [ "$(wc -l <<< "$said")" -gt 12 ] ||
    ctr task exec --exec-id inside demo ls -d "$PWD/hack" > /dev/null 2>&1; then
    tell "That is not the inside of the container. Please report it."
    exit 1
fi

bold "6. Paused and resumed"
show task pause demo
show task ls
show task resume demo

bold "7. Its statistics, from its cgroup"
show task metrics demo || true

bold "8. What it costs"
# The program that serves the container is its parent.
shim=$(awk '{ print $4 }' "/proc/$pid/stat")
tell "One process serves the container: $(tr '\0' '\n' < "/proc/$shim/cmdline" | head -n 1), pid $shim. A moment \
after its last work it gives back what it needs no more, so we wait three seconds."
sleep 3
awk '$1 == "Pss:" { pss = $2 } $1 == "Private_Dirty:" { dirty = $2 }
    END { printf "its memory: %.1f MB (PSS), of which %.1f MB are its own (private dirty)\n", pss / 1024, dirty / 1024 }' "/proc/$shim/smaps_rollup"

bold "9. Limits"
limits=shown
if [ -f /sys/fs/cgroup/cgroup.controllers ] && grep -qw memory /sys/fs/cgroup/cgroup.controllers; then
    show run --detach --runtime "$runtime" --memory-limit 67108864 "$image" limited sh -c 'sleep 1; head -c 200m /dev/zero | tail'
    limited=$(ctr task ls | awk '$1 == "limited" { print $2 }')
    tell "the kernel's word for it, memory.max of its cgroup: $(cat "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$limited/cgroup")/memory.max")"
    for _ in $(seq 100); do [ "$(ctr task ls | awk '$1 == "limited" { print $3 }')" != STOPPED ] || break; sleep 0.1; done
    show task rm limited || true
    tell "It asked for 200 MB and was killed for it: that is the status 137."
    ctr container rm limited
else
    limits=
    tell "Not here: this machine has its cgroup controllers on v1 and rsrun works with v2. A container runs here, its processes can be frozen, killed and counted, but a limit on memory, cpu or pids is refused rather than dropped:"
    if ctr run --rm --runtime "$runtime" --memory-limit 67108864 "$image" limited true 2>&1; then
        tell "(it was not refused: please report that)"
    fi
    ctr container rm limited > /dev/null 2>&1 || true
    tell "To see limits work, run the same demo in a virtual machine that has every controller on v2:  make demo-vm"
fi

bold "10. Cleaning up"
show task kill --signal SIGTERM demo
for _ in $(seq 50); do [ -d "/proc/$pid" ] && [ "$(ctr task ls | awk '$1 == "demo" { print $3 }')" != STOPPED ] || break; sleep 0.1; done
show task rm demo || true
show container rm demo
for _ in $(seq 50); do [ -d "/proc/$shim" ] || break; sleep 0.1; done
left=$([ ! -d "/proc/$shim" ] || echo "the process $shim")
hack/containerd.sh "$version" stop
tidy
if [ -z "$left" ]; then
    tell "The container, the process that served it and the containerd are gone; nothing of them is left on this machine."
else
    tell "Left behind, which should not be: $left" && exit 1
fi

bold "What you saw"
tell "containerd $version started two containers through $runtime, which made them itself: no runc, no second program. One printed and ended; one stayed, got a second process, was paused and resumed, was measured and was ended.${limits:+ A third had a memory limit and saw it.}"
