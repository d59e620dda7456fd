#!/usr/bin/env bash
# Whether each FILE needs nothing of the host it runs on: no loader, no libraries.
set -euo pipefail
for file; do
    headers=$(readelf -lW "$file")
    if grep -q INTERP <<< "$headers" || readelf -dW "$file" | grep -q NEEDED; then
        echo "$file is not static: $(readelf -dW "$file" | awk '/NEEDED/ { print $NF }' | tr '\n' ' ')" >&2
        exit 1
    fi
    printf '%s: static, %s kB\n' "$file" "$(($(stat -c %s "$file") / 1024))"
done
