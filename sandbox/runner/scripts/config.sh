#!/bin/bash
if [ "$(id -u)" -eq 0 ] && [ -z "$RUNNER_ALLOW_RUNASROOT" ]; then
    echo "Must not run with sudo"
    exit 1
fi
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit 1
. ./env.sh
if [ "$1" = remove ]; then
    shift
    exec ./bin/Runner.Listener remove "$@"
fi
exec ./bin/Runner.Listener configure "$@"
