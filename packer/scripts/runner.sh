#!/bin/bash
# Bakes the runner's release, verified, into /opt/actions-runner, and starts it once so that its first start is not its slowest.
# RUNNER_VERSION and RUNNER_SHA256 are required; RUNNER_URL overrides where the bytes come from. Idempotent.
set -euo pipefail
: "${RUNNER_VERSION:?the version to bake, such as 2.336.0}"
: "${RUNNER_SHA256:?the digest of the release: nothing is baked that nobody vouches for}"
case $(uname -m) in x86_64) word=x64 ;; aarch64) word=arm64 ;; *) echo "no runner is released for $(uname -m)" >&2; exit 1 ;; esac
home=/opt/actions-runner
if [ "$(cat "$home/.runs-fleet-digest" 2>/dev/null)" != "$RUNNER_SHA256" ]; then
    new=$(mktemp -d /opt/actions-runner.XXXXXX)
    trap 'rm -rf "$new"' EXIT
    curl -fsSL --retry 5 --retry-all-errors -o "$new/archive" \
        "${RUNNER_URL:-https://github.com/actions/runner/releases/download/v$RUNNER_VERSION/actions-runner-linux-$word-$RUNNER_VERSION.tar.gz}"
    echo "$RUNNER_SHA256  $new/archive" | sha256sum --check --quiet
    mkdir "$new/runner"
    tar -xzf "$new/archive" -C "$new/runner"
    if [ ! -x "$new/runner/run.sh" ] || [ ! -d "$new/runner/bin" ]; then echo "this archive holds no runner: expected run.sh and bin/" >&2; exit 1; fi
    if [ -x "$new/runner/bin/installdependencies.sh" ] && command -v apt-get >/dev/null && ! ldconfig -p | grep -q libicuuc; then
        "$new/runner/bin/installdependencies.sh" >/dev/null
    fi
    echo "$RUNNER_SHA256" > "$new/runner/.runs-fleet-digest"
    echo "$RUNNER_VERSION" > "$new/runner/.runs-fleet-version"
    chown -R runner:runner "$new/runner"
    rm -rf "$home"
    mv "$new/runner" "$home"
fi
# Source: `Runner.Listener warmup` of actions/runner, which loads what a first start loads.
setpriv --reuid runner --regid runner --init-groups env -i HOME=/home/runner PATH="$PATH" "$home/bin/Runner.Listener" warmup >/dev/null || true
