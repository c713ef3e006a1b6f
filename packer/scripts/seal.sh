#!/bin/bash
# The last step of a bake: says what is inside, lets the agent check the image, and removes what must be new on every machine.
set -euo pipefail
: "${SOURCE_IMAGE:=unknown}"
python=/usr/local/lib/runs-fleet/python
# The release belongs to the job's user; what it was lies where only root writes, for the selfcheck of any machine of this image.
if [ -d /opt/actions-runner ]; then
    (cd /opt/actions-runner && find . -path ./_diag -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum --) \
        > /etc/runs-fleet/runner.sha256
else
    rm -f /etc/runs-fleet/runner.sha256
fi
cat > /etc/runs-fleet/runs-fleet-image.json <<JSON
{
  "agent": "$("$python" -I /usr/local/lib/runs-fleet/agent --version)",
  "python": "$("$python" -c 'import platform; print(platform.python_version())')",
  "runner_version": "${RUNNER_VERSION:-}",
  "runner_sha256": "$(cat /opt/actions-runner/.runs-fleet-digest 2>/dev/null || true)",
  "architecture": "$(uname -m)",
  "system": "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)",
  "source_image": "$SOURCE_IMAGE",
  "docker": $(command -v dockerd >/dev/null && echo true || echo false),
  "baked_at": "$(date -u +%FT%T+00:00)"
}
JSON
rm -rf /tmp/runs-fleet*
runs-fleet-agent selfcheck --image
# All that a life loads only when it comes to need it, once: nothing may be missing, or made for another processor or Python.
"$python" -I -B - <<'PYTHON'
import importlib, pkgutil, sys
sys.path.insert(0, "/usr/local/lib/runs-fleet/agent")
import agent, boto3, isal.igzip_threaded, msgspec, psutil, requests, tenacity
for module in pkgutil.walk_packages(agent.__path__, "agent."):
    if module.name != "agent.__main__":
        importlib.import_module(module.name)
for service in ("ec2", "logs", "s3", "sqs", "ssm", "sts"):
    boto3.session.Session().client(service, region_name="us-east-1")
PYTHON
rm -rf /var/lib/runs-fleet && install -d -m 0700 /var/lib/runs-fleet
rm -rf /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/data /var/log/cloud-init* /var/log/journal/* 2>/dev/null || true
rm -f /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
: > /etc/machine-id
