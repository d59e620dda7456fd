#!/usr/bin/env bash
# Which go command builds the newest containerd and runc: this machine's own where
# it is new enough, otherwise Debian sid's, unpacked beside the system. Prints it.
set -euo pipefail
. hack/env.sh
. hack/setup/lib.sh

NEEDED=1.26

for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-$NEEDED/bin/go; do
    [ -x "$go" ] || continue
    have=$("$go" env GOVERSION 2>/dev/null | sed 's/^go//')
    if [ "$(printf '%s\n' "$NEEDED" "$have" | sort -V | head -1)" = "$NEEDED" ]; then
        echo "$go"
        exit 0
    fi
done

from_sid() {
    local into=$1
    unpacked sid "$into" "golang-$NEEDED-go"
    # The command finds its tree by its own place; Debian splits it in two, with links
    # from one half to the other.
    cp -aL "$into/usr/lib/go-$NEEDED" "$into/go"
    rm -rf "$into/usr/share" "$into/usr/lib/go-$NEEDED"
    find "$into/go/bin" "$into/go/pkg/tool" -type f -perm -u+x | while read -r file; do
        if readelf -l "$file" 2>/dev/null | grep -q INTERP; then borrow_libraries "$RSRUN_CACHE/go" "$file"; fi
    done
}
installed patchelf binutils >&2
once go "sid-$NEEDED" from_sid >&2
echo "$RSRUN_CACHE/go/go/bin/go"
