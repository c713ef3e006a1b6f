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

    `ahead` (Workers.ahead) lets receiving and inflating run ahead of the writing.

    On any failure `into` is removed again. Raises: ReleaseRefused, naming the member; whatever `chunks` raises.
    """
    into.mkdir(parents=True)
    whole = False
    try:
        members = _Unpacking(into, most_members, most_bytes).run(ahead(inflated(chunks)))
        whole = True
        return members
    except (tarfile.TarError, IsalError, zlib.error, EOFError) as error:  # type: ignore[misc]  # its stubs say less than it is
        raise ReleaseRefused(f"the archive is damaged: {error}") from error
    finally:
        if not whole:
            shutil.rmtree(into, ignore_errors=True)


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
        """Read a header, and refuse what is not understood."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _LONG_HEADERS and member.size > (1 << 20):
            raise ReleaseRefused("the archive holds a name or header of more than 1 MiB")
        return member

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """Read the next member, and refuse what is not understood."""
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
    """What tarfile takes for an unseekable file that never has to seek: it reads headers, we read the contents ourselves."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._current = memoryview(b"")
        self._at = 0

    def tell(self) -> int:
        """Bytes handed out so far."""
        return self._at

    def seek(self, at: int) -> None:
        """Never backwards: contents are always read to their end."""
        raise EOFError(f"it ends before byte {at}")

    def read(self, size: int) -> bytes:
        """Exactly that many bytes, fewer only at the end."""
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes as they lie in the chunks, uncopied; fewer only at the end."""
        while size > 0:
            if not self._current:
                self._current = memoryview(next(self._chunks, b""))
                if not self._current:
                    return
            piece, self._current = self._current[:size], self._current[size:]
            size -= len(piece)
            self._at += len(piece)
            yield piece

    def drain(self) -> None:
        """Take in what follows the archive's end marker: the digest covers it too."""
        for _ in self._chunks:
            pass


class _Unpacking:
    """Writes members below the root. Names are plain strings, normalised once: a release has thousands."""

    def __init__(self, root: Path, most_members: int, most_bytes: int) -> None:
        self._root = str(root)
        self._most_members, self._most_bytes = most_members, most_bytes
        self._links: set[str] = set()
        self._directories = {""}
        self._bytes = 0

    def run(self, chunks: Iterator[bytes]) -> int:
        stream = _Stream(chunks)
        members = 0
        with tarfile.TarFile(fileobj=cast(IO[bytes], stream), mode="r", tarinfo=_Member) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # a stream needs no index, and it would grow
                members += 1
                if members > self._most_members:
                    raise ReleaseRefused(f"the archive has more than {self._most_members} members")
                self._write(stream, member)
        stream.drain()
        return members

    def _write(self, stream: _Stream, member: tarfile.TarInfo) -> None:
        place = self._place(member)
        if member.isdir():
            self._directory(place, member.mode)
        elif member.isreg() and not member.issparse():
            self._file(stream, member, place)
        elif member.issym():
            self._symlink(member, place)
        elif member.islnk():
            self._hardlink(member, place)
        else:
            raise ReleaseRefused(f"the archive holds {member.name!r}, which is neither file, directory nor link")

    def _place(self, member: tarfile.TarInfo) -> str:
        place = self._inside(member.name, f"a member named {member.name[:200]!r}")
        if self._links and self._goes_through_a_link(place):
            raise ReleaseRefused(f"the archive writes {member.name!r} through a link")
        return place

    def _goes_through_a_link(self, place: str) -> bool:
        while place := place.rpartition("/")[0]:
            if place in self._links:
                return True
        return False

    @staticmethod
    def _inside(name: str, what: str) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        encoded = name.encode("utf-8", "surrogateescape")
        if len(encoded) > PATH_BYTES or any(len(part.encode("utf-8", "surrogateescape")) > NAME_BYTES for part in parts):
            raise ReleaseRefused(f"the archive holds {what}, which is too long a name")
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise ReleaseRefused(f"the archive holds {what}, which leaves the directory")
        return "/".join(parts)

    def _directory(self, place: str, mode: int = 0o755) -> None:
        if place in self._directories:
            return
        self._directory(place.rpartition("/")[0])
        target = f"{self._root}/{place}"
        if place in self._links or (os.path.lexists(target) and not os.path.isdir(target)):
            raise ReleaseRefused(f"the archive replaces {place!r} by a directory")
        os.mkdir(target)
        os.chmod(target, (mode & 0o777) | 0o700)
        self._directories.add(place)

    def _file(self, stream: _Stream, member: tarfile.TarInfo, place: str) -> None:
        self._bytes += member.size
        if member.size < 0 or self._bytes > self._most_bytes:
            raise ReleaseRefused(f"the archive unpacks to more than {self._most_bytes} bytes (at {member.name!r})")
        descriptor = self._created(place)
        try:
            left = member.size
            for piece in stream.pieces(member.size):
                left -= len(piece)
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
            if left:
                raise EOFError(f"{member.name!r} is cut off")
            os.fchmod(descriptor, (member.mode & 0o777) | 0o400)
        finally:
            os.close(descriptor)
        stream.read(-member.size % tarfile.BLOCKSIZE)

    def _created(self, place: str) -> int:
        """A new file; what an earlier member of the same name left is removed first."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._prepare(place)
        try:
            return os.open(f"{self._root}/{place}", flags, 0o600)
        except FileExistsError:
            return os.open(self._cleared(place), flags, 0o600)

    def _symlink(self, member: tarfile.TarInfo, place: str) -> None:
        """Only leading `..`s, no more of them than the link lies deep; and nothing is written through a link: none can leave."""
        target = PurePosixPath(member.linkname)
        if len(member.linkname.encode("utf-8", "surrogateescape")) > PATH_BYTES:
            raise ReleaseRefused(f"the archive holds a link {member.name[:100]!r} with too long a target")
        parts = list(target.parts)
        climbs = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
        if target.is_absolute() or not parts or ".." in parts[climbs:] or climbs > place.count("/"):
            raise ReleaseRefused(f"the archive holds a link {member.name!r} -> {member.linkname!r}, which leaves the directory")
        os.symlink(member.linkname, self._cleared(place))
        self._links.add(place)

    def _hardlink(self, member: tarfile.TarInfo, place: str) -> None:
        target = self._inside(member.linkname, f"a hard link {member.name!r} -> {member.linkname[:200]!r}")
        if target in self._links or self._goes_through_a_link(target):
            raise ReleaseRefused(f"the archive holds a hard link {member.name!r} through a link")
        if target == place or not os.path.isfile(f"{self._root}/{target}"):
            raise ReleaseRefused(f"the archive holds a hard link {member.name!r} to {member.linkname!r}, which is not there")
        os.link(f"{self._root}/{target}", self._cleared(place), follow_symlinks=False)

    def _prepare(self, place: str) -> None:
        if not place:
            raise ReleaseRefused("the archive holds a member without a name")
        self._directory(place.rpartition("/")[0])

    def _cleared(self, place: str) -> str:
        """Where `place` will be, with nothing there."""
        self._prepare(place)
        target = f"{self._root}/{place}"
        if os.path.islink(target) or os.path.isfile(target):
            os.unlink(target)
            self._links.discard(place)
        elif os.path.lexists(target):
            raise ReleaseRefused(f"the archive replaces the directory {place!r}")
        return target
