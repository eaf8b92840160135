"""What has been done, a line a picture: JSON lines beside the results, one file a shard, whatever a kill leaves of it.

    {"name": "street/0001", "input": "photos/street/0001.jpg", "stamp": "182044-17...", "settings": "9f86d081884c7d65",
     "outputs": {"labels": "street/0001_labels.png"}, "sha256": {"labels": "..."}, "seconds": 0.41, "error": null}

A later line of the same name replaces an earlier one. A line that was torn by a kill says nothing: that picture is done
again.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any

from ducseg.errors import explain
from ducseg.files import parse_json
from ducseg.inference.shards import Shard

__all__ = ["Manifest", "Row", "digest", "file_digest", "parse_rows", "read_rows", "stamp"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one picture.

    Attributes:
        name: of its results, without suffix, with forward slashes.
        input: where it was read.
        stamp: changes when the input does: size and time of change of a file.
        settings: digest of the checkpoint and all that changes the result.
        outputs: kind -> file below the results folder; none after an error.
        sha256: kind -> of that file.
        seconds: that labelling and writing it took.
        error: why it has no results; None: it has.
    """

    name: str
    input: str
    stamp: str
    settings: str
    outputs: Mapping[str, str]
    sha256: Mapping[str, str]
    seconds: float
    error: str | None = None

    def line(self) -> bytes:
        """As JSON on one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Manifest:
    """The lines of one shard, `manifest-IIIII-of-NNNNN.jsonl` in the results folder; a torn last line is cut off.

    Each line reaches the file in one write before `add` returns, so a killed process loses none.

    Raises:
        UserError: a file that cannot be written.
    """

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.path = folder / f"manifest-{shard.index:05d}-of-{shard.count:05d}.jsonl"
        self._lock = Lock()
        try:
            self._file = self.path.open("ab", buffering=0)
            self._file.truncate(self.path.read_bytes().rfind(b"\n") + 1)
        except OSError as error:
            raise explain(
                f"manifest {self.path}",
                found=error.strerror or str(error),
                needed="a file that can be written",
                fix="Choose another --out.",
            ) from error

    def add(self, row: Row) -> None:
        """Append a line; from any thread.

        Raises:
            UserError: a disk that does not take it.
        """
        line = row.line()
        with self._lock:
            try:
                written = self._file.write(line)
                if written != len(line):  # torn; another thread's may still find room
                    self._file.truncate(os.fstat(self._file.fileno()).st_size - written)
            except OSError as error:
                raise self._full(error.strerror or str(error)) from error
        if written != len(line):
            raise self._full("no room for a line")

    def _full(self, reason: str) -> Exception:
        return explain(
            f"manifest {self.path}", found=reason, needed="a disk with room", fix="Free some; the same command goes on."
        )

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_rows(folder: Path) -> dict[str, Row]:
    """Name -> its last line, over the manifests of all shards, of however many; lines that are none are passed over.

    Where several manifests know a picture, the newest file counts.
    """
    rows: dict[str, Row] = {}
    files = [file for file in folder.glob("manifest-*.jsonl") if file.is_file()]
    for file in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name)):
        rows.update((row.name, row) for row in parse_rows(file.read_bytes()))
    return rows


def parse_rows(data: bytes) -> Iterator[Row]:
    """The rows of a manifest's content, without lines that are none or that are torn."""
    names = {field.name for field in fields(Row)}
    for line in data.split(b"\n")[:-1]:
        try:
            found = parse_json(line)
        except ValueError:
            continue
        if isinstance(found, dict) and found.keys() == names and _is_row(found):
            yield Row(**found)


def _is_row(found: dict[str, Any]) -> bool:
    texts = [found[key] for key in ("name", "input", "stamp", "settings")]
    maps = [found["outputs"], found["sha256"]]
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(one, dict) for one in maps)
        and all(isinstance(value, str) for one in maps for value in one.values())
    )


def digest(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change with any of the settings (what JSON holds)."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; raises UserError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise explain(
            f"file {path}",
            found=error.strerror or str(error),
            needed="one that can be read",
            fix="Check who may use it; the same command goes on.",
        ) from error


def stamp(path: Path) -> str:
    """Size in bytes and time of change of a file; "" where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"
