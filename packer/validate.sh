#!/bin/bash
# Is what bakes an image in order? The template for every system and architecture, and every shell script that lands in an image.
# Fails if a tool is missing: what was not looked at is not in order.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
if command -v packer >/dev/null; then
    template=packer
    if [[ $(packer version) != *v1.6.* ]]; then template=packer/current && packer init "$template"; fi
    packer fmt -check -diff packer
    for system in amazon-linux-2023 ubuntu-24.04; do
        for architecture in amd64 arm64; do
            CHECKPOINT_DISABLE=1 packer validate -var "system=$system" -var "architecture=$architecture" "$template"
        done
    done
    echo "$(packer version | head -1): $template/ is valid for both systems and both architectures"
else
    echo "!! NOT CHECKED: packer/, because packer is not here (Debian: apt-get install packer; else developer.hashicorp.com/packer)" >&2
    missing+=(packer)
fi
mapfile -t scripts < <(grep -rlE '^#!/bin/(ba)?sh' packer userdata .ci)
if command -v shellcheck >/dev/null; then
    shellcheck "${scripts[@]}"
    echo "shellcheck: ${#scripts[@]} scripts are clean"
else
    echo "!! NOT CHECKED: ${#scripts[@]} scripts, because shellcheck is not here (Debian: apt-get install shellcheck)" >&2
    missing+=(shellcheck)
fi
[ ${#missing[@]} = 0 ] || { echo "image-validate fails: ${missing[*]} missing" >&2; exit 1; }
