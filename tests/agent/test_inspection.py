"""What `selfcheck` sees of a machine, and what it passes over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.inspection import LARGEST_SEARCHED, Search
from tests.agent.apart import ROOT as CHECKOUT

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may make the namespaces in which a machine is laid out")
KEY = "AKIA" + "IOSFODNN7EXAMPLE"


def test_processes_and_files_that_vanish_while_they_are_looked_at_are_passed_over(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, tempfile, threading\n"
        "from agent.adapters import inspection\n"
        "def churn():\n"
        "    while True:\n"
        "        subprocess.run(['true'])\n"
        "        with tempfile.TemporaryDirectory(dir=sys.argv[1]) as there:\n"
        "            for name in range(50): open(f'{there}/{name}', 'w').close()\n"
        "for _ in range(3): threading.Thread(target=churn, daemon=True).start()\n"
        "for _ in range(30): list(inspection._secrets(None, inspection.Search([sys.argv[1]])))\n"
    )

    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False
    )

    assert told.returncode == 0, told.stderr


def seen(*changes: str) -> dict[str, Any]:
    """What `look` saw of a baked image after these changes; each is bash, run where the runner lies."""
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    done = subprocess.run(
        [*words, "-m", "tests.agent.inspected_machine", *changes], cwd=CHECKOUT, capture_output=True, text=True, timeout=600,
        check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@as_root
def test_a_baked_image_is_seen_as_it_is() -> None:
    found = seen()

    assert found["versions"].items() >= {"agent": "9.9.9", "runner": "2.336.0"}.items()
    assert (found["runner_executable"], found["runner_files"], found["runner_changed"]) == (True, 2, [])
    assert (found["job_uid"], found["job_groups"], found["job_sudo"]) == (59_873, ["runner", "builders"], "")
    assert (found["built_at"], found["modes"]["/etc/runs-fleet/agent.env"]) == ("2026-11-20T12:00:00Z", 0o600)
    assert found["secrets"] == []
    assert found["disk_free_bytes"] > 0 and found["memory_bytes"] > 0


@as_root
def test_what_only_a_booted_machine_has_is_not_looked_for_in_an_image() -> None:
    found = seen()

    assert (found["unit"], found["firewall"], found["metadata"], found["synchronised"]) == ({}, None, {}, None)


@as_root
def test_a_file_of_the_release_that_was_changed_or_is_missing_is_named() -> None:
    found = seen("echo more >> run.sh", "rm bin/Runner.Listener")

    assert (found["runner_files"], sorted(found["runner_changed"])) == (2, ["bin/Runner.Listener", "run.sh"])
    assert not found["runner_executable"]


@as_root
@pytest.mark.parametrize("change", ["chmod g+w", "chmod o+w", "chown 59873", "rm"])
def test_a_list_that_is_missing_or_not_roots_alone_to_change_is_no_list(change: str) -> None:
    assert seen(f"{change} /etc/runs-fleet/runner.sha256")["runner_files"] is None


@as_root
@pytest.mark.parametrize("content", ["", "[]", "{", "{}"])
def test_an_image_that_does_not_say_what_it_is_has_no_version_and_no_date(content: str) -> None:
    found = seen(f"echo '{content}' > /etc/runs-fleet/runs-fleet-image.json")

    assert ("runner" in found["versions"], found["built_at"]) == (False, "")


@as_root
def test_a_machine_without_the_jobs_user_says_so() -> None:
    found = seen("sed -i /^runner:/d /etc/passwd")

    assert (found["job_uid"], found["job_groups"]) == (None, [])


@as_root
def test_secrets_in_files_and_in_processes_are_named_by_where_they_lie_and_never_quoted() -> None:
    found = seen(
        f"mkdir -p /tmp/deep/er && echo 'key {KEY}' > /tmp/deep/er/file && chmod 600 /tmp/deep/er/file",
        "echo AWS_SECRET_ACCESS_KEY=x > /etc/runs-fleet/agent.env && ln -s /tmp/deep/er/file /tmp/link && mkfifo /tmp/pipe",
        "AWS_SESSION_TOKEN=x setsid sleep 600 >/dev/null 2>&1 & echo $! > /opt/pid",
        f"setsid bash -c 'sleep 600; true' {KEY} >/dev/null 2>&1 & ",
    )

    files = [where for where in found["secrets"] if where.startswith("/")]
    processes = [where for where in found["secrets"] if not where.startswith("/")]
    assert sorted(files) == ["/etc/runs-fleet/agent.env", "/tmp/deep/er/file"]
    assert sorted(where.partition(" of pid ")[0] for where in processes) == ["command line", "environment"]
    assert KEY not in json.dumps(found)


@as_root
def test_what_the_jobs_own_processes_hold_is_theirs() -> None:
    held = "AWS_SESSION_TOKEN=x setpriv --reuid=59873 --clear-groups sleep 600 >/dev/null 2>&1 &"

    assert seen(held)["secrets"] == []


@as_root
@pytest.mark.parametrize(("size", "found"), [(LARGEST_SEARCHED, ["/tmp/file"]), (LARGEST_SEARCHED + 1, [])])
def test_a_file_is_searched_up_to_a_size(size: int, found: list[str]) -> None:
    assert seen(f"echo {KEY} > /tmp/file && truncate -s {size} /tmp/file")["secrets"] == found


def test_the_search_ends_at_its_bound_and_says_where(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}").touch()

    by_files, by_time = Search([str(tmp_path)], most=10), Search([str(tmp_path)], within_s=0.0)

    assert (len(list(by_files.files())), len(list(by_time.files()))) == (10, 0)
    assert "10 files, stopped at " in by_files.told() and "0 files, stopped at " in by_time.told()


def test_a_search_that_came_to_its_end_says_how_much_it_saw(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").touch()
    search = Search([str(tmp_path), str(tmp_path / "below" / "file"), "/nowhere"])

    assert (len(list(search.files())), search.told()) == (2, "2 files")
