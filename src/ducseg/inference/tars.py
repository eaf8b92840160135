"""WebDataset shards: pictures out of a tar, results into one. Nothing of a tar decides where anything is written.

Members whose names end as a picture's are taken; what is no plain file, or has a name that leads elsewhere, is refused
one by one. A result has the name of its picture with the kind and the suffix: street/0001.jpg gives
street/0001.labels.png, so that tars of both join by their keys. The bytes of a tar depend on the results alone.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.errors import UserError, explain
from ducseg.files import is_hidden, whole_file

__all__ = ["Member", "extract", "is_tar", "list_members", "pack"]

_ENDINGS = (".tar", ".tar.gz", ".tgz")
_MOST_BYTES = 1 << 30
_MOST_NOTES = 1 << 20
_NOTES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


@dataclass(frozen=True)
class Member:
    """A picture in a tar.

    Attributes:
        name: as it stands there.
        key: its name without suffix.
        index: of its entry in the tar.
        refused: why it is not taken; None: it is.
    """

    name: str
    key: str
    index: int
    refused: str | None = None


class _Entry(tarfile.TarInfo):
    """An entry, whose long name and other notes are not read into memory where they are no such."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:  # tarfile says that subclasses may
        if self.type in _NOTES and self.size > _MOST_NOTES:
            raise tarfile.ReadError(f"{self.size} bytes of a name")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


def is_tar(name: str) -> bool:
    """Whether a file's name is that of a tar."""
    return name.lower().endswith(_ENDINGS)


def list_members(tar: Path) -> Iterator[tuple[Member, tarfile.TarInfo, tarfile.TarFile]]:
    """Its pictures in their order, with what `extract` needs, valid until the next one.

    Raises:
        UserError: no tar, or damaged there; members before that have been given.
    """
    taken: set[str] = set()
    try:
        with tarfile.open(tar, "r:*", tarinfo=_Entry) as archive:
            for index, info in enumerate(archive):
                archive.members.clear()  # type: ignore[attr-defined]  # which else are kept to its end
                path = PurePosixPath(info.name)
                if info.isdir() or path.suffix.lower() not in PICTURE_SUFFIXES:
                    continue
                key, refused = str(path.with_suffix("")), _refused(info, path)
                if refused is None and is_hidden(path):
                    continue
                refused = refused or (f"a second {key}" if key in taken else None)
                taken |= {key} if refused is None else set()
                yield Member(info.name, key, index, refused), info, archive
            _check_end(archive)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise explain(
            f"tar {tar}", found=(str(error).splitlines() or ["damage"])[0], needed="a whole tar", fix="Copy it again."
        ) from None


def _check_end(archive: tarfile.TarFile) -> None:
    """A tar ends with blocks of zeros; damage in its middle is taken for its end by the reader."""
    source = archive.fileobj
    assert source is not None
    source.seek(archive.offset)
    if source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end where the entries end")


def _refused(info: tarfile.TarInfo, path: PurePosixPath) -> str | None:
    if info.type not in _PLAIN or info.sparse is not None:
        return "no plain file but a link, a device or a file with holes"
    if path.is_absolute() or ".." in path.parts or "\\" in info.name or ":" in path.parts[0] or "\0" in info.name:
        return "a name that leads out of its folder"
    if info.size > _MOST_BYTES:
        return f"{info.size} bytes, more than {_MOST_BYTES}"
    return None


def extract(archive: tarfile.TarFile, info: tarfile.TarInfo, file: Path) -> None:
    """Write a member's bytes to a file of the caller's choice; raises UserError where the tar is cut short there."""
    source = archive.extractfile(info)
    assert source is not None, "a plain file"
    try:
        with source, file.open("wb") as target:
            left = info.size
            while left and (chunk := source.read(min(left, 1 << 20))):
                target.write(chunk)
                left -= len(chunk)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _cut(info, str(error)) from None
    if left:
        raise _cut(info, f"{left} bytes too few")


def _cut(info: tarfile.TarInfo, reason: str) -> UserError:
    return explain(f"member {info.name}", found=reason, needed="a whole tar", fix="Copy it again.")


def pack(tar: Path, files: Mapping[str, Path]) -> None:
    """Write files under their names into a new tar, sorted, whole or not at all.

    Raises:
        UserError: a disk that refuses it.
    """
    with whole_file(tar) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size, info.mode = files[name].stat().st_size, 0o644
            with files[name].open("rb") as source:
                archive.addfile(info, source)
