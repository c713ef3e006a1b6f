"""What starts the listener instead of the release's own `run.sh`: a script of root's that ends with the listener's exit code.

`run.sh` copies `run-helper.sh` into a directory that is the job's and runs it there; bash reads a script while it runs, so a job
can rewrite what is left of it. And nearly every exit code of the listener becomes 0 there. Source: actions/runner 2.336.0.
"""

from __future__ import annotations

from pathlib import Path

RESTARTS = 5
"""How often a listener that asks for it is started again; the agent stops it earlier where that cannot help."""
_SCRIPT = f"""#!/bin/bash
# Written by the agent: runs the runner's listener (the arguments) and ends with its exit code.
trap : INT TERM  # not ignored: what is ignored stays so in the listener, which could then not be stopped
if [ -n "$RUNNER_UPDATE_CA_CERTS" ]; then
    if [ "$(id -u)" -eq 0 ]; then update-ca-certificates; else sudo -n update-ca-certificates; fi
fi
for waited in $(seq 1 "${{RUNNER_WAIT_FOR_DOCKER_IN_SECONDS:-0}}"); do
    [ "$waited" -gt 1 ] || echo "Waiting for docker to be ready."
    docker ps >/dev/null 2>&1 && echo "Docker is ready." && break
    sleep 1
done
for turn in $(seq 0 {RESTARTS}); do
    [ "$turn" -eq 0 ] || echo "Restarting runner..."
    "$@"
    code=$?
    case $code in
        2) sleep 5 ;;  # an error that may pass
        3 | 4)  # it updates itself
            for _ in $(seq 1 31); do [ -e update.finished ] && break; sleep 1; done
            rm -f update.finished ;;
        *) exit "$code" ;;
    esac
done
exit "$code"
"""


def written(directory: Path) -> Path:
    """The script, written there anew. Raises: OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "listen"
    aside = directory / "listen.new"
    aside.write_text(_SCRIPT, encoding="utf-8")
    aside.chmod(0o755)
    aside.rename(path)
    return path


def listener(directory: Path) -> tuple[str, ...]:
    """The command of the listener of the release in `directory`."""
    return str(directory / "bin" / "Runner.Listener"), "run"
