"""What several test packages need: one AWS in moto's server mode for the process, and a clock on which waiting costs nothing."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import hypothesis
import pytest
import requests
from werkzeug.serving import make_server

from sandbox import aws_models
from simulation.clock import AgentClock
from tests.agent import httpd
from tests.scheduling import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401 - hooks

REGION = "us-east-1"
hypothesis.settings.register_profile("tests", deadline=None, print_blob=True)
hypothesis.settings.load_profile("tests")
"""How long an example takes says how busy the machine is, and nothing else."""
aws_models.keep()


@dataclass(frozen=True)
class Moto:
    """An AWS on loopback. `url` is its endpoint."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a child process needs to reach it: endpoint, region and static credentials."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing-secret-key",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str) -> Any:
        """A boto3 client that reaches it whatever the environment says."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing-secret-key",
        )


def pytest_collection_finish() -> None:
    """What collecting made lives to the end: whoever looks for garbage need not look through it again and again."""
    gc.freeze()


def pytest_configure() -> None:
    """Whoever started us may have had signals ignored (nohup does, and a script's `&`); our children would inherit that."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
def clock() -> AgentClock:
    """A clock at 0 s."""
    return AgentClock(fraction=0.5)


@pytest.fixture
def site() -> Iterator[httpd.Site]:
    """A web server on loopback without any page yet."""
    with httpd.site() as world:
        yield world


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """The server's URL; one for the whole process. Imported here: moto is large, and not every process needs it."""
    from sandbox.moto_speedups import Dispatcher
    from sandbox.serialized_writes import SerializedWrites

    server = make_server("127.0.0.1", 0, SerializedWrites(Dispatcher()), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True, name="moto").start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()


@pytest.fixture
def moto(moto_server: str) -> Iterator[Moto]:
    """An empty AWS; while the test runs, the process's own environment leads there too, so that real adapters find it."""
    requests.post(f"{moto_server}/moto-api/reset", timeout=600)
    world = Moto(moto_server)
    before = dict(os.environ)
    os.environ.update(world.environment, AWS_EC2_METADATA_DISABLED="true")
    yield world
    os.environ.clear()
    os.environ.update(before)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where RUNS_FLEET_NO_SKIPS says so, a test that was skipped is a failure: nobody reads counts."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("RUNS_FLEET_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
