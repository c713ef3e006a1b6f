"""What the job left goes; what lies outside the runner's directory stays, whatever the job linked to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.runner.cleanup import LEFT_BY_RUNS, RefusedToClean, clean
from sandbox.runner import release

NO_HOMES: frozenset[Path] = frozenset()


def left_behind(runner: Path) -> None:
    """What registering and a job leave in a runner's directory."""
    for name in LEFT_BY_RUNS:
        if name in ("_work", "_diag"):
            (runner / name / "deep" / "deeper").mkdir(parents=True)
            (runner / name / "deep" / "file").write_text("left")
        else:
            (runner / name).write_text("left")


def kept(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def test_a_release_we_unpacked_goes_whole_and_its_neighbours_stay(work: Path) -> None:
    runner = release.install(work / "runner-2.10.0")
    left_behind(runner)
    (work / "spool").mkdir()

    failures = clean(runner, work, NO_HOMES)

    assert failures == [] and [path.name for path in work.iterdir()] == ["spool"]


def test_a_baked_release_stays_as_its_publisher_made_it_and_loses_what_runs_left(tmp_path: Path, work: Path) -> None:
    runner = release.install(tmp_path / "opt" / "runner")
    before = kept(runner)
    left_behind(runner)

    failures = clean(runner, work, NO_HOMES)

    assert failures == [] and kept(runner) == before


def test_no_credential_survives_in_a_baked_release(tmp_path: Path, work: Path) -> None:
    runner = release.install(tmp_path / "opt" / "runner")
    for name in (".credentials", ".credentials_rsaparams", ".runner"):
        (runner / name).write_text("hush")

    clean(runner, work, NO_HOMES)

    assert [path for path in runner.rglob("*") if path.is_file() and b"hush" in path.read_bytes()] == []


@pytest.mark.parametrize("where", ["/", "/etc", "/home", "/tmp", "/no-such-directory"])
def test_a_directory_at_the_top_is_refused(where: str, work: Path) -> None:
    with pytest.raises(RefusedToClean):
        clean(Path(where), work, NO_HOMES)


@pytest.mark.parametrize("inside_work", [True, False])
def test_a_home_is_refused_even_if_it_holds_a_runner(inside_work: bool, tmp_path: Path, work: Path) -> None:
    home = release.install((work if inside_work else tmp_path / "homes") / "somebody")
    before = kept(home)

    with pytest.raises(RefusedToClean):
        clean(home, work, frozenset({home}))

    assert kept(home) == before


def test_a_home_is_recognised_through_a_link(tmp_path: Path, work: Path) -> None:
    home = release.install(tmp_path / "real" / "somebody")
    (tmp_path / "homes").symlink_to(tmp_path / "real")

    with pytest.raises(RefusedToClean):
        clean(home, work, frozenset({tmp_path / "homes" / "somebody"}))


def test_a_link_to_a_runner_is_refused_and_both_ends_stay(tmp_path: Path, work: Path) -> None:
    runner = release.install(tmp_path / "opt" / "runner")
    left_behind(runner)
    before = kept(runner)
    (work / "link").symlink_to(runner)

    with pytest.raises(RefusedToClean, match="link"):
        clean(work / "link", work, NO_HOMES)

    assert kept(runner) == before and (work / "link").is_symlink()


@pytest.mark.parametrize("without", ["run.sh", "bin"])
def test_a_directory_without_a_runner_is_refused_and_keeps_everything(without: str, work: Path) -> None:
    directory = work / "photographs"
    (directory / "_work").mkdir(parents=True)
    if without != "run.sh":
        (directory / "run.sh").touch()
    if without != "bin":
        (directory / "bin").mkdir()
    before = kept(directory)

    with pytest.raises(RefusedToClean, match="no runner"):
        clean(directory, work, NO_HOMES)

    assert kept(directory) == before


def test_the_work_directory_itself_is_never_removed_whole(work: Path) -> None:
    release.install(work)
    (work / "spool").mkdir()
    left_behind(work)

    clean(work, work, NO_HOMES)

    assert (work / "spool").exists() and (work / "run.sh").exists() and not (work / "_work").exists()


@pytest.mark.parametrize("baked", [True, False])
def test_links_are_removed_and_what_they_point_to_stays(baked: bool, tmp_path: Path, work: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o750)
    (precious / "file").write_text("precious")
    runner = release.install(tmp_path / "opt" / "runner" if baked else work / "runner")
    (runner / "_work").mkdir()
    (runner / "_work" / "inner").symlink_to(precious)
    (runner / "_diag").symlink_to(precious)
    (runner / ".credentials").symlink_to(precious / "file")
    (runner / ".path").symlink_to("nowhere")

    failures = clean(runner, work, NO_HOMES)

    assert failures == [] and (precious / "file").read_text() == "precious"
    assert precious.stat().st_mode & 0o777 == 0o750
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink() and "externals" not in str(path)]


def test_directories_that_nobody_may_enter_and_pipes_go_too(tmp_path: Path, work: Path) -> None:
    runner = release.install(tmp_path / "opt" / "runner")
    (runner / "_work").mkdir()
    os.mkfifo(runner / "_work" / "pipe")
    (runner / "_work" / "closed").mkdir(mode=0o000)
    (runner / "_work").chmod(0o000)

    assert clean(runner, work, NO_HOMES) == []
    assert not (runner / "_work").exists()


def test_a_pipe_in_the_place_of_a_file_goes_too(tmp_path: Path, work: Path) -> None:
    runner = release.install(tmp_path / "opt" / "runner")
    os.mkfifo(runner / ".credentials")

    clean(runner, work, NO_HOMES)

    assert not (runner / ".credentials").exists()


def test_cleaning_twice_is_cleaning_once(tmp_path: Path, work: Path) -> None:
    runner = release.install(tmp_path / "opt" / "runner")
    left_behind(runner)

    assert (clean(runner, work, NO_HOMES), clean(runner, work, NO_HOMES)) == ([], [])
