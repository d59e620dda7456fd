#!/usr/bin/env bash
# Whether each containerd loads the file in config/ that is for it and knows the
# runtime after it. One line for each, like a test's.
set -uo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

# A key that this containerd does not know is dropped in silence, so every key of the
# file's table is looked for in the table that containerd tells back.
loads() {
    local version=$1 file=$2 said table key
    said=$("$RSRUN_CONTAINERD_DIR/$version/bin/containerd" --config "$file" config dump 2>&1) || { echo "$said"; return 1; }
    if grep 'level=error' <<< "$said"; then return 1; fi
    table=$(awk '/^ *\[/ { on = 0 } /runtimes\.rsrun\]/ { on = 1 } on' <<< "$said")
    grep -q 'io.containerd.rsrun.v2' <<< "$table" || { echo "no runtime rsrun in what containerd $version read"; return 1; }
    # The CRI plugin does not load without it.
    key=$(sed -n "s/^ *default_runtime_name = ['\"]\(.*\)['\"]/\1/p" <<< "$said" | head -1)
    grep -q "runtimes\.$key\]" <<< "$said" || { echo "the default runtime '$key' has no table in containerd $version"; return 1; }
    for key in $(awk '/^ *\[/ { on = 0 } /runtimes\.rsrun\]/ { on = 1; next } on' "$file" | sed -n 's/^ *\([a-z_]*\) *=.*/\1/p'); do
        grep -q "^ *$key = " <<< "$table" || { echo "containerd $version knows no $key"; return 1; }
    done
}

failed=0
echo "==> suite config"
for pair in 1.6:1.6.toml 1.7:1.7.toml 2.4:2.x.toml; do
    name=containerd_${pair%%:*}
    if loads "${pair%%:*}" "config/containerd/${pair#*:}"; then result=ok; else result=FAILED failed=1; fi
    echo "test config::${name//./_}_loads_its_file ... $result"
done
if python3 -m json.tool config/docker/daemon.json > /dev/null; then result=ok; else result=FAILED failed=1; fi
echo "test config::docker_file_is_json ... $result"
echo "==> ended config $failed"
exit $failed
