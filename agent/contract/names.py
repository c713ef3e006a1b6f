"""Names that both sides derive from the same few report, so that none has to be passed."""

from __future__ import annotations

import re

DEFAULT_PARAMETER_PREFIX = "/runs-fleet/runners"
RUNNER_NAME_LIMIT = 64
"""Characters GitHub allows in a runner's name; more aborts the registration. Source: reference failure A13."""


def parameter_name(instance_id: str, prefix: str = DEFAULT_PARAMETER_PREFIX) -> str:
    """Where the configuration of this instance lies in SSM."""
    return f"{prefix}/{instance_id}/config"


def instance_of(name: str, prefix: str = DEFAULT_PARAMETER_PREFIX) -> str:
    """Whose configuration lies under this name in SSM; empty if it is no such name."""
    found = re.fullmatch(rf"{re.escape(prefix)}/(i-[0-9a-f]+)/config", name)
    return found[1] if found else ""


CONFIG_OBJECTS = "configs"


def config_object(user_id: str) -> str:
    """The S3 key of the configuration of whoever AWS calls `user_id` (`AROA…:i-…`: its role's id, and the instance).

    So a policy can let each instance read its own alone: `arn:aws:s3:::BUCKET/configs/${aws:userid}/config`.
    Source: "IAM policy elements: variables and tags" of the IAM user guide.
    """
    return f"{CONFIG_OBJECTS}/{user_id}/config"


def instance_of_object(key: str) -> str:
    """Whose configuration lies under this key in S3; empty if it is no such key."""
    found = re.fullmatch(rf"{CONFIG_OBJECTS}/[A-Za-z0-9]+:(i-[0-9a-f]+)/config", key)
    return found[1] if found else ""


def log_stream_name(instance_id: str, job_id: str) -> str:
    """The CloudWatch Logs stream of this life; a life without a job gets `unknown-job`.

    `:` and `*` are not allowed in stream names and become `-`. Source: CreateLogStream in the CloudWatch Logs API.
    """
    return re.sub(r"[:*]", "-", f"{instance_id}/{job_id or 'unknown-job'}")


def release_key(version: str, architecture: str) -> str:
    """The S3 key of a cached runner release; `architecture` is the runner's word (`x64`, `arm64`)."""
    return f"runners/{version}/{architecture}/actions-runner-{version}.tar.gz"


def release_asset(version: str, architecture: str) -> str:
    """The file name of a Linux release on GitHub. Source: the assets of github.com/actions/runner releases."""
    return f"actions-runner-linux-{architecture}-{version}.tar.gz"


def diagnostics_key(prefix: str, run_id: str, job_id: str, instance_id: str, file_name: str) -> str:
    """The S3 key of one gzipped diagnostic log of the runner."""
    return (
        f"{prefix.strip('/') or 'runner-logs'}/{run_id or 'unknown-run'}/{job_id or 'unknown-job'}/{instance_id}/{file_name}.gz"
    )


def runner_name(prefix: str, instance_id: str) -> str:
    """A runner name of at most 64 characters: the prefix is shortened, the instance id (the unique part) never."""
    room = RUNNER_NAME_LIMIT - len(instance_id) - 1
    return f"{prefix[: max(room, 0)].rstrip('-')}-{instance_id}".lstrip("-")[-RUNNER_NAME_LIMIT:]
