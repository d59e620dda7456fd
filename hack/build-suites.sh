#!/usr/bin/env bash
# Builds every suite of tests/ into target/suites/NAME: one static file each, so that
# the same file runs here and in the virtual machine.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p target/suites
cargo test -p rsrun-tests --tests --no-run --locked --message-format=json-render-diagnostics |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message.get("executable") and message["target"]["kind"] == ["test"]:
        print(message["target"]["name"], message["executable"])
' > target/suites.list
rm -f target/suites/*
while read -r name file; do
    # The rules of the source tree are no suite: hack/check.sh runs them.
    [ "$name" != tidy ] || continue
    # Symbols stay, so that a panic names its function.
    strip --strip-debug -o "target/suites/$name" "$file"
done < target/suites.list
