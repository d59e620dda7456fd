#!/usr/bin/env bash
# Leaves only the modules that a guest without hardware can use: prune-modules.sh DIRECTORY
set -euo pipefail
cd "$1/kernel"

keep=(arch block crypto fs lib mm net
    drivers/block drivers/virtio drivers/md drivers/fuse
    drivers/char/virtio_console.ko drivers/char/hw_random drivers/net/dummy.ko drivers/net/ifb.ko
    drivers/net/veth.ko drivers/net/tun.ko drivers/net/tap.ko drivers/net/vrf.ko drivers/net/vxlan
    drivers/net/macvlan.ko drivers/net/macvtap.ko drivers/net/ipvlan drivers/net/virtio_net.ko
    drivers/net/net_failover.ko drivers/net/wireguard)

kept=$(mktemp -d ../kept.XXXXXX)
for path in "${keep[@]}"; do
    # A newer kernel's may be compressed, or built in.
    for found in "$path" "$path".xz; do
        [ -e "$found" ] || continue
        mkdir -p "$kept/$(dirname "$found")"
        mv "$found" "$kept/$found"
    done
done
cd ..
rm -rf kernel
mv "${kept#../}" kernel
chmod 755 kernel
