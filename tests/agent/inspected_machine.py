"""A machine of its own to look at: namespaces of mounts and processes, in which an image's files are laid out.

As root, `unshare --mount --pid --fork --kill-child --mount-proc python -m tests.agent.inspected_machine CHANGE...` prints what
`look` saw as JSON. Each change is bash, run when everything is in its place.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

from agent.adapters.inspection import look

LAYOUT = """
set -e
mount -t tmpfs none /mnt
cp -a /etc /mnt/etc
cp -a /var/lib/cloud /mnt/cloud 2>/dev/null || true
mount --bind /mnt/etc /etc
mount -t tmpfs none /opt
mount -t tmpfs none /tmp
echo 'runner:x:59873:59873::/home/runner:/bin/bash' >> /etc/passwd
printf 'runner:x:59873:\\nbuilders:x:59874:runner\\n' >> /etc/group
rm -rf /etc/runs-fleet
mkdir -p /etc/runs-fleet /opt/actions-runner/bin
echo '{"runner_version": "2.336.0", "baked_at": "2026-11-20T12:00:00Z"}' > /etc/runs-fleet/runs-fleet-image.json
install -m 600 /dev/null /etc/runs-fleet/agent.env
cd /opt/actions-runner
echo 'exec bin/Runner.Listener' > run.sh
install -m 755 /bin/true bin/Runner.Listener
sha256sum run.sh bin/Runner.Listener > /etc/runs-fleet/runner.sha256
"""

if __name__ == "__main__":
    for script in (LAYOUT, *sys.argv[1:]):
        subprocess.run(["bash", "-c", script], check=True, cwd="/opt/actions-runner" if script is not LAYOUT else "/")
    sys.stdout.write(json.dumps(dataclasses.asdict(look(image=True, version="9.9.9"))) + "\n")
