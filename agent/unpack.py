"""An archive from strangers becomes a directory, or a refusal; never half of either.

Members are written while the bytes still arrive. What a lenient library would quietly mend (an absolute name, a `..`, a link
that leaves) is refused: an archive that tries is not the publisher's.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

from isal import isal_zlib
from isal.igzip_lib import IsalError

from agent.errors import ReleaseRefused

MOST_MEMBERS = 200_000
"""A release has some 6,000 members; thirty times that is not a runner."""
MOST_BYTES = 8 << 30
"""Bytes unpacked; a release has some 600 MB."""
TAR_BLOCK_BYTES = 1 << 16
"""tarfile's stream buffer: above some 128 KiB its copying costs more than it saves (measured)."""
COPY_BYTES = 1 << 18
PIECE_BYTES = 1 << 20
"""Inflated at once: a file that swells a thousandfold must not fill the memory."""
NAME_BYTES, PATH_BYTES = 255, 4095
"""What Linux takes as one name and as one path. Source: limits.h."""


def unpack(
    chunks: Iterator[bytes],
    into: Path,
    *,
    ahead: Callable[[Iterator[bytes]], Iterator[bytes]] = lambda chunks: chunks,
    most_members: int = MOST_MEMBERS,
    most_bytes: int = MOST_BYTES,
) -> int:
    """Unpack the .tar.gz in `chunks` below the new directory `into`; returns the number of members.

    `ahead` (Crew.ahead) lets receiving and inflating run ahead of the writing.

    On any failure `into` is removed again. Raises: ReleaseRefused, naming the member; whatever `chunks` raises.
    """
    into.mkdir(parents=True)
    try:
        return _Unpacking(into, most_members, most_bytes).run(ahead(inflated(chunks)))
    except (tarfile.TarError, IsalError, zlib.error, EOFError) as error:  # type: ignore[misc]  # its stubs say less than it is
        shutil.rmtree(into, ignore_errors=True)
        raise ReleaseRefused(f"the archive is damaged: {error}") from error
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


def holds_runner(directory: Path) -> bool:
    """Whether a runner release lies there."""
    return (directory / "run.sh").is_file() and (directory / "bin").is_dir()


END_OF_ARCHIVE: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]
DAMAGED_HEADER: type[Exception] = tarfile.HeaderError
_LONG_HEADERS = frozenset(
    {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
)


class _Member(tarfile.TarInfo):
    """A header as it must be: tarfile takes a damaged one, or the stream's sudden end, for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _LONG_HEADERS and member.size > (1 << 20):
            raise ReleaseRefused("the archive holds a name or header of more than 1 MiB")
        return member

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except END_OF_ARCHIVE:
            raise
        except (DAMAGED_HEADER, ValueError, OverflowError) as error:
            raise ReleaseRefused(f"the archive is damaged or cut off: {error}") from error


def inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes inside a gzip stream of one or more members, as they come, in pieces of at most 1 MiB.

    Raises: EOFError if it ends in the middle; isal's error if it is damaged.
    """
    inflater = isal_zlib.decompressobj(wbits=31)
    begun = False
    for chunk in chunks:
        rest = chunk
        while rest:
            if inflater.eof:
                inflater = isal_zlib.decompressobj(wbits=31)
            begun = True
            piece = inflater.decompress(rest, PIECE_BYTES)
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if piece:
                yield piece
    if not begun or not inflater.eof:
        raise EOFError("it ends in the middle of the compressed data")


class _Stream:
    """A readable over chunks; asks for no more of them than it was asked for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and (chunk := next(self._chunks, b"")):
            self._ready += chunk
        given = bytes(memoryview(self._ready)[:size])
        del self._ready[:size]
        return given

    def drain(self) -> None:
        """Take in what follows the archive's end marker: the digest covers it too."""
        for _ in self._chunks:
            pass


class _Unpacking:
    def __init__(self, root: Path, most_members: int, most_bytes: int) -> None:
        self._root = root
        self._most_members, self._most_bytes = most_members, most_bytes
        self._links: set[PurePosixPath] = set()
        self._known_directories = {PurePosixPath()}
        self._bytes = 0

    def run(self, chunks: Iterator[bytes]) -> int:
        stream = _Stream(chunks)
        members = 0
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=TAR_BLOCK_BYTES, tarinfo=_Member) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # a stream needs no index, and it would grow
                members += 1
                if members > self._most_members:
                    raise ReleaseRefused(f"the archive has more than {self._most_members} members")
                self._write(archive, member)
        stream.drain()
        return members

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        place = self._place(member)
        if member.isdir():
            self._directory(place, member.mode)
        elif member.isreg():
            self._file(archive, member, place)
        elif member.issym():
            self._symlink(member, place)
        elif member.islnk():
            self._hardlink(member, place)
        else:
            raise ReleaseRefused(f"the archive holds {member.name!r}, which is neither file, directory nor link")

    def _place(self, member: tarfile.TarInfo) -> PurePosixPath:
        place = self._inside(member.name, f"a member named {member.name!r}")
        if any(parent in self._links for parent in place.parents):
            raise ReleaseRefused(f"the archive writes {member.name!r} through a link")
        return place

    @staticmethod
    def _inside(name: str, what: str) -> PurePosixPath:
        path = PurePosixPath(name)
        if len(name.encode("utf-8", "replace")) > PATH_BYTES or any(
            len(p.encode("utf-8", "replace")) > NAME_BYTES for p in path.parts
        ):
            raise ReleaseRefused(f"the archive holds {what[:100]}, which is too long a name")
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise ReleaseRefused(f"the archive holds {what}, which leaves the directory")
        return path

    def _directory(self, place: PurePosixPath, mode: int = 0o755) -> None:
        if place in self._known_directories:
            return
        self._directory(place.parent)
        target = self._root / place
        if place in self._links or (target.exists() and not target.is_dir()):
            raise ReleaseRefused(f"the archive replaces {str(place)!r} by a directory")
        target.mkdir(exist_ok=True)
        target.chmod((mode & 0o777) | 0o700)
        self._known_directories.add(place)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, place: PurePosixPath) -> None:
        self._bytes += member.size
        if member.size < 0 or self._bytes > self._most_bytes:
            raise ReleaseRefused(f"the archive unpacks to more than {self._most_bytes} bytes (at {member.name!r})")
        target = self._cleared(place)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            source = cast(IO[bytes], archive.extractfile(member))
            left = member.size
            while left:
                piece = source.read(min(left, COPY_BYTES))
                if not piece:
                    raise EOFError(f"{member.name!r} is cut off")
                left -= len(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, (member.mode & 0o777) | 0o400)
        finally:
            os.close(descriptor)

    def _symlink(self, member: tarfile.TarInfo, place: PurePosixPath) -> None:
        """Only leading `..`s, no more of them than the link lies deep: with no member written through a link, none can leave."""
        target = PurePosixPath(member.linkname)
        if len(member.linkname.encode("utf-8", "replace")) > PATH_BYTES:
            raise ReleaseRefused(f"the archive holds a link {member.name[:100]!r} with too long a target")
        parts = list(target.parts)
        climbs = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
        if target.is_absolute() or not parts or ".." in parts[climbs:] or climbs > len(place.parts) - 1:
            raise ReleaseRefused(f"the archive holds a link {member.name!r} -> {member.linkname!r}, which leaves the directory")
        self._cleared(place).symlink_to(member.linkname)
        self._links.add(place)

    def _hardlink(self, member: tarfile.TarInfo, place: PurePosixPath) -> None:
        target = self._inside(member.linkname, f"a hard link {member.name!r} -> {member.linkname!r}")
        if target in self._links or any(parent in self._links for parent in target.parents):
            raise ReleaseRefused(f"the archive holds a hard link {member.name!r} through a link")
        if target == place or not (self._root / target).is_file():
            raise ReleaseRefused(f"the archive holds a hard link {member.name!r} to {member.linkname!r}, which is not there")
        os.link(self._root / target, self._cleared(place), follow_symlinks=False)

    def _cleared(self, place: PurePosixPath) -> Path:
        if not place.parts:
            raise ReleaseRefused("the archive holds a member without a name")
        self._directory(place.parent)
        target = self._root / place
        if target.is_symlink() or target.is_file():
            target.unlink()
            self._links.discard(place)
        elif target.exists():
            raise ReleaseRefused(f"the archive replaces the directory {str(place)!r}")
        return target
