"""The project installed without any extra is the agent alone: it runs from anywhere and says what it lacks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
AGENT_ALONE = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3", "requests", "idna", "certifi",
               "charset_normalizer", "isal", "msgspec", "psutil", "tenacity")  # fmt: skip
"""What `pip install` of the agent brings, by name of import."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory into which pip put us, without any network; beside it only what the agent depends on."""
    root = tmp_path_factory.mktemp("installed")
    for name in ("agent", "orchestrator", "sandbox"):
        shutil.copytree(CHECKOUT / name, root / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "userdata"):
        found = CHECKOUT / name
        (shutil.copytree if found.is_dir() else shutil.copy)(found, root / "source" / name)
    words = [
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--no-compile",
        "--quiet",
        "--target",
        str(root / "here"),
    ]
    pip = subprocess.run(
        [sys.executable, "-m", "pip", *words, "--disable-pip-version-check", str(root / "source")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert pip.returncode == 0, pip.stdout + pip.stderr
    (root / "needs").mkdir()
    for module in AGENT_ALONE:
        origin = Path(str(importlib.util.find_spec(module).origin))  # type: ignore[union-attr]
        (root / "needs" / (origin.parent.name if origin.name == "__init__.py" else origin.name)).symlink_to(
            origin.parent if origin.name == "__init__.py" else origin
        )
    (root / "elsewhere").mkdir()
    return root


def run(installed: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """A command of ours, from another directory, with the installed packages and nothing of the checkout."""
    environment = {
        "PATH": "/usr/bin:/bin", "PYTHONPATH": f"{installed / 'here'}:{installed / 'needs'}",
        "HOME": str(installed / "elsewhere"),
        "RUNS_FLEET_POWER_OFF": f"touch {installed / 'off'}", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9", **extra,
    }  # fmt: skip
    python = [getattr(sys, "_base_executable", sys.executable), "-S", *words]
    return subprocess.run(
        python, env=environment, cwd=installed / "elsewhere", capture_output=True, text=True, timeout=600, check=False
    )


def script(installed: Path, name: str) -> str:
    """Where pip put a command."""
    return str(installed / "here" / "bin" / name)


def test_the_installed_agent_names_what_is_missing_and_exits_78(installed: Path) -> None:
    told = run(installed, script(installed, "runs-fleet-agent"))

    assert told.returncode == 78, told.stderr
    assert "RUNS_FLEET_TERMINATION_QUEUE_URL is missing" in told.stderr
    assert "Traceback" not in told.stderr


def test_the_module_is_the_same_as_the_command(installed: Path) -> None:
    assert run(installed, "-m", "agent").returncode == 78


def test_what_runs_is_what_was_installed(installed: Path) -> None:
    told = run(installed, "-c", "import agent.wiring, agent.runner.unpack; print(agent.__file__)")

    assert told.stdout.strip() == str(installed / "here" / "agent" / "__init__.py"), told.stderr


def test_without_its_extra_the_other_command_says_what_to_install(installed: Path) -> None:
    told = run(installed, script(installed, "runs-fleet"))

    assert told.returncode == 1
    assert "pip install 'runs-fleet[orchestrator]'" in told.stderr
    assert "Traceback" not in told.stderr


def test_what_is_no_code_is_installed_too(installed: Path) -> None:
    here = installed / "here"
    wanted = [
        "agent/py.typed",
        "sandbox/example.yml",
        "sandbox/runner/scripts/run.sh",
        "sandbox/runner/scripts/run-helper.sh.template",
    ]

    assert [name for name in wanted if not (here / name).is_file()] == []
    assert not (here / "tests").exists()


def test_the_installed_sandbox_finds_its_boot_scripts(installed: Path) -> None:
    scripts = installed / "here" / "share" / "runs-fleet" / "userdata"

    assert sorted(path.name for path in scripts.iterdir()) == ["run-agent.sh", "runs-fleet.sh"]
    assert all(os.access(path, os.X_OK) for path in scripts.iterdir())


def test_the_local_command_is_found_by_its_entry_point() -> None:
    assert [(point.name, point.value) for point in entry_points(group="runs_fleet.commands")] == [
        ("local", "sandbox.local:local")
    ]
