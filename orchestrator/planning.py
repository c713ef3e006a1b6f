"""Decide what to ask EC2 for, as data: the request is stored before it is sent, and a replay sends the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from orchestrator.labels import architecture
from orchestrator.model import Job
from orchestrator.settings import ServerSettings

BOOT_S = 900.0
"""Seconds between launch and a runner that listens, at worst; the agent's own bounds for getting ready add up to this."""
REPORT_S = 300.0
"""Seconds between the end of the runtime and a machine that is gone: grace, flush, final word, death."""
NAME_LIMIT = 64


def session_id(stack_id: str, job: Job) -> str:
    """The same for every delivery of the same wish, so that a repeated one finds its session instead of making a second."""
    return "s-" + hashlib.sha256(f"{stack_id}/{job.job_id}/{job.run_attempt}".encode()).hexdigest()[:20]


def runner_name(stack_id: str, session: str) -> str:
    """Unique and at most 64 characters: the stack's part is shortened, the session's never."""
    return f"{stack_id[: NAME_LIMIT - len(session) - 1]}-{session}"


def launch_request(settings: ServerSettings, job: Job, session: str, expires_at: float) -> str:
    """A CreateFleet call for one instance, as JSON. Source: CreateFleet in the EC2 API reference (type `instant`)."""
    arch = architecture(job.labels)
    types = settings.arm_instance_types if arch == "arm64" else settings.instance_types
    template = {"LaunchTemplateName": f"{settings.launch_template}-{arch}", "Version": "$Latest"}
    overrides = [{"InstanceType": kind, "SubnetId": subnet} for kind in types for subnet in settings.subnet_ids]
    tags = {
        "Name": runner_name(settings.stack_id, session),
        "runs-fleet:managed": "true",
        "runs-fleet:stack": settings.stack_id,
        "runs-fleet:session-id": session,
        "runs-fleet:expires-at": str(int(expires_at)),
    }
    request: dict[str, Any] = {
        "ClientToken": session,
        "Type": "instant",
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template, "Overrides": overrides}],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": "spot" if settings.spot else "on-demand",
        },
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    }
    if settings.spot:
        request["SpotOptions"] = {"AllocationStrategy": "price-capacity-optimized"}
    return json.dumps(request, sort_keys=True)


def lifetime_s(settings: ServerSettings) -> float:
    """Seconds after which a machine is terminated from outside."""
    return BOOT_S + 60.0 * settings.max_runtime_minutes + REPORT_S


def without_update(blob: str) -> str:
    """The JIT config with `DisableUpdate` set: a runner that lives for one job must not spend it on updating itself.

    A blob of another shape is returned as it is. Source: actions/runner, `.runner` settings.
    """
    try:
        files = json.loads(base64.b64decode(blob, validate=True))
        runner = json.loads(base64.b64decode(files[".runner"], validate=True).decode("utf-8-sig"))
        runner["DisableUpdate"] = "True"
        files[".runner"] = base64.b64encode(json.dumps(runner).encode()).decode()
        return base64.b64encode(json.dumps(files).encode()).decode()
    except (ValueError, KeyError, TypeError):
        return blob
