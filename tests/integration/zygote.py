"""Starts orchestrators quickly: imports once, then forks one for every line of JSON (its environment) on standard input."""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    import boto3
    import jwt
    import uvicorn

    import orchestrator.adapters.aws
    import orchestrator.serve
    import orchestrator.wiring
    from orchestrator.settings import read_settings
    from sandbox.cloud import CREDENTIALS, REGION

    session = boto3.session.Session(**CREDENTIALS, region_name=REGION)
    for service in ("sqs", "ssm", "dynamodb", "ec2"):
        session.client(service)
    loaded = (jwt, uvicorn)
    print(f"ready {len(loaded)}", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        environment = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(environment)
            log = os.open(environment["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            clients = orchestrator.adapters.aws.Clients(session)
            orchestrator.serve.serve(orchestrator.wiring.orchestrator(read_settings(os.environ), clients))
            os._exit(0)
        print(pid, flush=True)


main()
