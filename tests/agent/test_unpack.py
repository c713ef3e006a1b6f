"""An archive from strangers becomes a directory, or a refusal; never half of either."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isal import igzip

from agent.adapters.http import RequestsWeb
from agent.adapters.network import Network
from agent.adapters.system import QueueInbox, ThreadWorkers
from agent.errors import ReleaseRefused
from agent.ports import TaskEnded
from agent.runner.downloader import Download
from agent.runner.unpack import unpack
from sandbox.runner import release
from tests.agent.httpd import Site
from tests.conftest import AgentClock

Member = tuple[tarfile.TarInfo, bytes]


def a_file(name: str, content: bytes = b"content", mode: int = 0o644) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def a_directory(name: str) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member, b""


def a_symlink(name: str, target: str) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member, b""


def a_hardlink(name: str, target: str) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.LNKTYPE, target
    return member, b""


def a_special(name: str, kind: bytes) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.devmajor, member.devminor = kind, 1, 3
    return member, b""


def with_pax(member: Member, headers: dict[str, str]) -> Member:
    member[0].pax_headers = headers
    return member


def tarred(*members: Member) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def packed(*members: Member) -> bytes:
    return gzip.compress(tarred(*members), 1)


def pieces(content: bytes, size: int = 1 << 17) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


HOSTILE = {
    "an absolute name": packed(a_file("/tmp/runs-fleet-unpack-escaped")),
    "an absolute directory": packed(a_directory("/tmp/runs-fleet-unpack-escaped")),
    "a name that climbs": packed(a_file("../escaped")),
    "a name that climbs in the middle": packed(a_directory("a"), a_file("a/../../escaped")),
    "a name that climbs and comes back": packed(a_file("a/../b")),
    "an absolute link": packed(a_symlink("link", "/etc/passwd")),
    "an empty link": packed(a_symlink("link", "")),
    "a link that climbs": packed(a_symlink("link", "../outside")),
    "a deep link that climbs too far": packed(a_symlink("a/b/link", "../../../outside")),
    "a link that goes down to climb": packed(a_directory("a"), a_symlink("link", "a/../../outside")),
    "a link that climbs through another link": packed(
        a_symlink("a/b/c/L", "../../.."), a_symlink("M", "a/b/c/L/../x"), a_file("M", b"escaped")
    ),
    "a link at the very top": packed(a_symlink("./", "anywhere")),
    "a file written through a link": packed(a_directory("a"), a_symlink("link", "a"), a_file("link/file")),
    "a directory made through a link": packed(a_directory("a"), a_symlink("link", "a"), a_directory("link/inner")),
    "a link made through a link": packed(a_directory("a"), a_symlink("link", "a"), a_symlink("link/inner", "b")),
    "a link replaced by a directory": packed(a_symlink("link", "a"), a_directory("link")),
    "a directory replaced by a link": packed(a_directory("a"), a_file("a/file"), a_symlink("a", "b")),
    "a file used as a directory": packed(a_file("a"), a_file("a/file")),
    "a hard link that climbs": packed(a_hardlink("link", "../../etc/passwd")),
    "an absolute hard link": packed(a_hardlink("link", "/etc/passwd")),
    "a hard link through a link": packed(
        a_directory("a"), a_file("a/file"), a_symlink("link", "a"), a_hardlink("hard", "link/file")
    ),
    "a hard link to a link": packed(a_symlink("link", "nowhere"), a_hardlink("hard", "link")),
    "a hard link to nothing": packed(a_hardlink("hard", "not-there")),
    "a character device": packed(a_special("null", tarfile.CHRTYPE)),
    "a block device": packed(a_special("disk", tarfile.BLKTYPE)),
    "a pipe": packed(a_special("pipe", tarfile.FIFOTYPE)),
    "a hard link to itself": packed(a_file("a"), a_hardlink("a", "a")),
    "a name no file system takes": packed(a_file("x" * 300)),
    "a link target no file system takes": packed(a_symlink("link", "y" * 5_000)),
    "a sparse file whose numbers are none": packed(with_pax(a_file("a"), {"GNU.sparse.map": "a,b", "GNU.sparse.size": "c"})),
    "garbage": b"this is not an archive" * 100,
    "nothing at all": b"",
    "gzip of garbage": gzip.compress(b"this is not a tar" * 100),
    "gzip of nothing": gzip.compress(b""),
    "gzip cut off": packed(a_file("a"), a_file("b", random.Random(1).randbytes(50_000)))[:-20_000],
    "gzip cut off in its check sum": packed(a_file("a"))[:-4],
    "gzip with a wrong check sum": packed(a_file("a"))[:-8] + bytes(8),
    "tar cut off in a member": gzip.compress(tarred(a_file("a"), a_file("b", bytes(50_000)))[:20_000]),
    "tar cut off in a header": gzip.compress(tarred(a_file("a"), a_file("b"))[:1_300]),
    "tar cut off between two members": gzip.compress(tarred(a_file("a"), a_file("b"))[:1_024]),
    "tar with a damaged header": gzip.compress(tarred(a_file("a"))[:1_024] + b"\xff" * 512 + bytes(10_240)),
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_archive_with_this_is_refused_and_leaves_nothing_behind(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused):
        unpack(pieces(archive), tmp_path / "work" / "aside")

    assert below(tmp_path) == {"work"}
    assert not Path("/tmp/runs-fleet-unpack-escaped").exists()


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/../../escaped"])
def test_a_refusal_names_the_member(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match=name.replace(".", r"\.")):
        unpack(pieces(packed(a_file("fine"), a_file(name))), tmp_path / "aside")


def test_too_many_members_are_refused_while_as_many_as_allowed_are_not(tmp_path: Path) -> None:
    archive = packed(*(a_file(f"file-{number}") for number in range(5)))

    unpack(pieces(archive), tmp_path / "enough", most_members=5)
    with pytest.raises(ReleaseRefused, match="more than 4 members"):
        unpack(pieces(archive), tmp_path / "too-many", most_members=4)

    assert not (tmp_path / "too-many").exists()


def test_too_many_bytes_are_refused_before_they_are_written(tmp_path: Path) -> None:
    archive = packed(a_file("one", bytes(600)), a_file("two", bytes(600)))

    unpack(pieces(archive), tmp_path / "enough", most_bytes=1_200)
    with pytest.raises(ReleaseRefused, match="more than 1199 bytes"):
        unpack(pieces(archive), tmp_path / "too-much", most_bytes=1_199)

    assert not (tmp_path / "too-much").exists()


def test_a_member_that_claims_a_huge_size_is_refused_on_its_word(tmp_path: Path) -> None:
    member = tarfile.TarInfo("huge")
    member.size = 9 << 30
    archive = gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))

    with pytest.raises(ReleaseRefused, match="huge"):
        unpack(pieces(archive), tmp_path / "aside")


def test_setuid_and_setgid_and_sticky_bits_are_not_kept(tmp_path: Path) -> None:
    unpack(pieces(packed(a_file("su", mode=0o6755), a_file("sticky", mode=0o1644))), tmp_path / "aside")

    assert (tmp_path / "aside" / "su").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "aside" / "sticky").stat().st_mode & 0o7777 == 0o644


def test_a_link_that_stays_inside_is_kept_as_it_is(tmp_path: Path) -> None:
    unpack(pieces(packed(a_file("lib/tool", b"tool"), a_symlink("bin/tool", "../lib/tool"))), tmp_path / "aside")

    assert str((tmp_path / "aside/bin/tool").readlink()) == "../lib/tool"
    assert (tmp_path / "aside/bin/tool").read_bytes() == b"tool"


def test_a_hard_link_inside_shares_its_file_until_one_of_them_is_replaced(tmp_path: Path) -> None:
    unpack(pieces(packed(a_file("one", b"first"), a_hardlink("two", "one"), a_file("one", b"second"))), tmp_path / "aside")

    assert (tmp_path / "aside/one").read_bytes() == b"second"
    assert (tmp_path / "aside/two").read_bytes() == b"first"


def test_a_good_release_comes_out_file_by_file_mode_by_mode_and_link_by_link(tmp_path: Path) -> None:
    unpack(pieces(release.archive().content), tmp_path / "aside")

    found = [path for path in (tmp_path / "aside").rglob("*") if not path.is_dir()]
    files = {str(path.relative_to(tmp_path / "aside")): path for path in found if not path.is_symlink()}
    links = {str(path.relative_to(tmp_path / "aside")): str(path.readlink()) for path in found if path.is_symlink()}
    assert {name: (path.read_bytes(), path.stat().st_mode & 0o7777) for name, path in files.items()} == release.files()
    assert links == release.links()


def test_bytes_may_come_one_at_a_time(tmp_path: Path) -> None:
    unpack(pieces(packed(a_file("a", b"some words"), a_file("b/c")), size=1), tmp_path / "aside")

    assert below(tmp_path / "aside") == {"a", "b", "b/c"}


def test_an_archive_of_several_gzip_members_is_never_unpacked_by_half(tmp_path: Path) -> None:
    whole = tarred(a_file("a"), a_file("b"))
    archive = gzip.compress(whole[:1_024]) + gzip.compress(whole[1_024:])

    with suppress(ReleaseRefused):
        unpack(pieces(archive), tmp_path / "aside")

    assert below(tmp_path) in (set(), {"aside", "aside/a", "aside/b"})


def test_all_bytes_are_taken_in_although_the_archive_ended_before_them(tmp_path: Path) -> None:
    archive = gzip.compress(tarred(a_file("a")) + random.Random(5).randbytes(300_000))
    taken = []

    def counted() -> Iterator[bytes]:
        for piece in pieces(archive, size=1_000):
            taken.append(len(piece))
            yield piece

    unpack(counted(), tmp_path / "aside")

    assert sum(taken) == len(archive)


def test_a_link_replaced_by_a_file_is_a_file_from_then_on(tmp_path: Path) -> None:
    unpack(pieces(packed(a_symlink("a", "x"), a_file("a", b"file"), a_hardlink("b", "a"))), tmp_path / "aside")

    assert (tmp_path / "aside/b").read_bytes() == b"file" and not (tmp_path / "aside/a").is_symlink()


def test_what_breaks_on_the_way_comes_out_as_it_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield release.archive().content[:5_000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        unpack(broken(), tmp_path / "aside")

    assert below(tmp_path) == set()


SAMPLE = tarred(
    a_directory("d"),
    a_file("d/" + "long-name/" * 20 + "file"),
    a_symlink("d/link", "x"),
    a_hardlink("hard", "d/" + "long-name/" * 20 + "file"),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, len(SAMPLE) - 5_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_bytes_of_a_tar_are_changed_it_is_unpacked_or_refused_and_nothing_else(
    changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    changed = bytearray(SAMPLE)
    for at, byte in changes:
        changed[at] = byte
        start = at - at % 512
        if changed[start + 257 : start + 262] == b"ustar":
            changed[start + 148 : start + 156] = b" " * 8
            changed[start + 148 : start + 156] = b"%06o\0 " % sum(changed[start : start + 512])
    place = tmp_path_factory.mktemp("changed")

    try:
        unpack(pieces(gzip.compress(changed, 1)), place / "aside")
    except ReleaseRefused:
        assert below(place) == set()

    assert [path.name for path in place.iterdir()] in ([], ["aside"])


def incompressible(megabytes: int, path: Path) -> None:
    """A release-shaped archive of about that size, quickly: the same random megabyte again and again, out of deflate's reach."""
    block = random.Random(7).randbytes(1 << 20)
    with igzip.open(path, "wb", compresslevel=0) as target, tarfile.open(fileobj=target, mode="w|", bufsize=1 << 20) as tar:
        for member, content in (a_file("run.sh", b"#!/bin/bash\n", 0o755), a_directory("bin")):
            tar.addfile(member, io.BytesIO(content))
        for number in range(megabytes):
            member, _ = a_file(f"bin/{number}", block)
            tar.addfile(member, io.BytesIO(block))


def test_the_first_files_exist_while_the_server_still_holds_back_the_last_byte(site: Site, tmp_path: Path) -> None:
    archive, released, asked = tmp_path / "release.tar.gz", threading.Event(), threading.Event()
    incompressible(8, archive)
    last = archive.stat().st_size - 1
    url = site.serve("/release", archive, hold_last=released)
    download = Download(lambda offset: RequestsWeb(Network({})).open(url, offset), AgentClock())
    inbox = QueueInbox()
    workers = ThreadWorkers(inbox)
    chunks = telling(workers.ahead(download.chunks()), last, asked)
    workers.begin("unpacking", lambda: unpack(chunks, tmp_path / "aside"))

    everything_but_one_byte_is_taken = asked.wait(20)
    there, received = below(tmp_path / "aside"), download.received
    released.set()

    assert everything_but_one_byte_is_taken and received == last
    assert {"run.sh", "bin/0", "bin/6"} <= there
    end = inbox.wait(float("inf"))
    assert isinstance(end, TaskEnded) and end.error is None and end.value == 10


def telling(chunks: Iterator[bytes], at: int, asked: threading.Event) -> Iterator[bytes]:
    """The same chunks; `asked` is set when the consumer is done with the first `at` bytes and wants more."""
    taken = 0
    for chunk in chunks:
        yield chunk
        taken += len(chunk)
        if taken == at:
            asked.set()


MEASURE = """
import sys
from contextlib import suppress
from pathlib import Path
from agent.adapters.http import RequestsWeb
from agent.adapters.network import Network
from agent.adapters.system import QueueInbox, SystemClock, ThreadWorkers
from agent.runner.downloader import Download
from agent.errors import ReleaseRefused
from agent.runner.unpack import unpack
web = RequestsWeb(Network({}))
download = Download(lambda offset: web.open(sys.argv[1], offset), SystemClock())
with suppress(ReleaseRefused):
    unpack(ThreadWorkers(QueueInbox()).ahead(download.chunks()), Path(sys.argv[2]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def measured_megabytes(url: str, into: Path) -> float:
    """Peak memory of a process that fetches and unpacks `url`; not getrusage's, which counts the process that forked it too."""
    command = [sys.executable, "-c", MEASURE, url, str(into)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, cwd=Path(__file__).parents[2])
    return int(ran.stdout) / 1024


@pytest.fixture
def throwaway(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Paths for large files, gone when the test is over."""
    made: list[Path] = []

    def name(text: str) -> Path:
        made.append(tmp_path / text)
        return made[-1]

    yield name
    for path in made:
        subprocess.run(["rm", "-rf", str(path)], check=True)


def test_a_release_of_200_mb_is_fetched_and_unpacked_in_100_mb_of_memory(site: Site, throwaway: Callable[[str], Path]) -> None:
    archive, into = throwaway("release.tar.gz"), throwaway("aside")
    incompressible(200, archive)

    peak = measured_megabytes(site.serve("/release", archive), into)

    assert archive.stat().st_size > 200_000_000
    assert peak <= 100


@pytest.mark.parametrize("what", ["a file", "the name of a file"])
def test_what_swells_a_thousandfold_is_unpacked_or_refused_in_100_mb_of_memory(
    what: str, site: Site, throwaway: Callable[[str], Path]
) -> None:
    member, zeros = a_file("zeros" if what == "a file" else "././@LongLink", bytes(200 << 20))
    member.type = tarfile.REGTYPE if what == "a file" else tarfile.GNUTYPE_LONGNAME
    swelling = gzip.compress(tarred((member, zeros)), 6)

    peak = measured_megabytes(site.serve("/release", swelling), throwaway("aside"))

    assert peak <= 100
