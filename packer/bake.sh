#!/bin/bash
# Bakes an image: packer/bake.sh base|runner|both amazon-linux-2023|ubuntu-24.04 amd64|arm64 [words for packer, such as -var region=…]
# The runner layer wants RUNNER_SHA256 (and RUNNER_VERSION, else the template's), and builds the agent's bundle unless BUNDLE names one.
# OUT: where the bundle goes, and the list of images made; dist. SSH_KEY: an ed25519 key to log in with; else one is made, and gone.
set -euo pipefail
say() { echo "$1" >&2; exit 2; }
layers=${1:-} system=${2:-} architecture=${3:-}
case $layers in both) layers="base runner" ;; base|runner) ;; *) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;; esac
case $system in amazon-linux-2023) python=3.11 ;; ubuntu-24.04) python=3.12 ;; *) say "the system must be amazon-linux-2023 or ubuntu-24.04, not '$system'" ;; esac
case $architecture in amd64|arm64) ;; *) say "the architecture must be amd64 or arm64, not '$architecture'" ;; esac
shift 3
cd "$(dirname "$0")/.."
for tool in packer ssh-keygen sha256sum; do command -v "$tool" >/dev/null || say "$tool is missing (Debian: apt-get install packer openssh-client coreutils)"; done

template=packer
if [[ $(packer version) != *v1.6.* ]]; then template=packer/current && packer init "$template"; fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
out=${OUT:-dist}
mkdir -p "$out"
words=(-var "system=$system" -var "architecture=$architecture")
if [[ $layers == *runner* ]]; then
    [ -n "${RUNNER_SHA256:-}" ] || say "RUNNER_SHA256 is missing: the digest of the $architecture release, from https://github.com/actions/runner/releases"
    [ -n "${BUNDLE:-}" ] || read -r BUNDLE _ < <("${PYTHON:-python3}" packer/bundle.py --out "$out" --python "$python" --architecture "$architecture")
    name=$(basename "${BUNDLE:?packer/bundle.py built none}") version=${BUNDLE##*/runs-fleet-agent-}
    version=${version%%-*}
    [ "$name" = "runs-fleet-agent-$version-py$python-$architecture.tar.gz" ] || say "$name is not for $system on $architecture: that wants py$python-$architecture"
    words+=(-var "bundle_directory=$(dirname "$BUNDLE")" -var "agent_version=$version" -var "runner_sha256=$RUNNER_SHA256")
    words+=(-var "agent_sha256=$(sha256sum "$BUNDLE" | cut -c-64)" ${RUNNER_VERSION:+-var "runner_version=$RUNNER_VERSION"})
fi
key=${SSH_KEY:-$scratch/key}  # let in by the builder's cloud-init: EC2 is asked for no key pair, so none is left behind
[ -n "${SSH_KEY:-}" ] || ssh-keygen -q -t ed25519 -N '' -C 'runs-fleet builder' -f "$key"
words+=(-var "ssh_private_key_file=$key" -var "ssh_public_key=$(ssh-keygen -y -f "$key")")
for layer in $layers; do
    manifest=$out/image-$layer-$system-$architecture.json
    rm -f "$manifest"
    packer build -only="$layer.*" "${words[@]}" -var "manifest=$manifest" "$@" "$template"
    # packer is content with -only words that match nothing, so its exit code alone says little
    image=$(sed -n 's/.*"artifact_id": "\(.*\)".*/\1/p' "$manifest" 2>/dev/null || true)
    [ -n "$image" ] || { echo "packer ended well and wrote down no image in $manifest" >&2; exit 1; }
    echo "$layer $system $architecture $image"
done
