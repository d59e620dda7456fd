#!/usr/bin/env bash
# Whether each containerd loads the file in config/ that is for it and knows the
# runtime after it. One line for each, like a test's.
set -uo pipefail
cd "$(dirname "$0")/.."
RSRUN_SOURCE=$PWD
. hack/env.sh

# Unknown keys are only warned about, so a warning is a failure here.
loads() {
    local version=$1 file=$2 said
    said=$("$RSRUN_CONTAINERD_DIR/$version/bin/containerd" --config "$file" config dump 2>&1) || { echo "$said"; return 1; }
    if grep -iE 'level=(warn|error)|unknown key|strict mode' <<< "$said"; then return 1; fi
    # What is read back and not what was written: containerd fills in the rest.
    grep -A30 'runtimes.rsrun\]' <<< "$said" | grep -q 'io.containerd.rsrun.v2' || { echo "no runtime rsrun in what containerd $version read"; return 1; }
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
