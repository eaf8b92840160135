"""Files on a disk or at a URL of fsspec (s3://, gs://, memory://, ...): listed, fetched, put whole, remembered.

A local path and file:// mean the disk itself. What else fsspec needs (an endpoint, keys) it takes from its own
configuration and environment.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlsplit

from ducseg.errors import UserError, explain
from ducseg.inference.manifest import Manifest, Row, file_digest, parse_rows, read_rows
from ducseg.inference.shards import Shard

__all__ = ["Place", "Rows", "fetch", "is_url", "list_url", "local_path"]

_FLUSH_AFTER = 5.0
"""Seconds after which lines of a manifest at a URL go there: objects cannot be appended to."""

_ATOMIC = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oci", "r2")
"""Stores in which an object is there whole or not; elsewhere a file is moved into place."""


class Rows(Protocol):
    """Where rows of a manifest go."""

    def add(self, row: Row) -> None:
        """From any thread; raises UserError where they cannot go."""


def is_url(given: str | Path) -> bool:
    """Whether fsspec reads it: a URL, other than of a file; C://pictures is none."""
    return isinstance(given, str) and given.find("://") > 1 and not given.startswith("file://")


def local_path(given: str | Path) -> Path:
    """A path, also of a file:// URL."""
    if isinstance(given, str) and given.startswith("file://"):
        path = given.removeprefix("file://")
        return Path(path[1:] if path[2:3] == ":" else path)  # file:///C:/pictures
    return Path(given)


@cache
def _system(scheme: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        package = str(error).partition("Install ")[2].partition(" ")[0] or f"fsspec[{scheme}]"
        raise explain(f"{scheme}://", found=str(error), needed="what reads it", fix=f"pip install {package}") from None
    except ValueError as error:
        raise explain(
            f"{scheme}://", found=str(error), needed="a protocol that fsspec knows", fix="See its list."
        ) from None


@contextmanager
def _at(url: str) -> Iterator[tuple[Any, str]]:
    """The file system and the path in it; what goes wrong there is said in a line."""
    try:
        system = _system(urlsplit(url).scheme)
        yield system, system._strip_protocol(url)
    except UserError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise explain(
            url,
            found=f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}",
            needed="a place that can be read or written",
            fix="Check its name, the endpoint and the keys of its file system.",
        ) from error


def list_url(url: str) -> list[tuple[str, str, str]]:
    """(URL, path below the URL's folder, stamp) of what a file, folder (searched whole) or glob stands for, sorted.

    Raises:
        UserError: nothing there, no access.
    """
    with _at(url) as (system, path):
        if any(sign in path for sign in "*?["):
            found, base = system.glob(path, detail=True), ""
        elif system.isfile(path):
            found, base = {path: system.info(path)}, ""
        else:
            found, base = system.find(path, detail=True), path.rstrip("/") + "/"
        links = {name for name, info in found.items() if info.get("islink") and not system.isdir(name)}
        files = {
            name: info
            for name, info in sorted(found.items())
            if (info["type"] == "file" or name in links) and ".." not in name.split("/")  # objects may be called so
        }
        if not files:
            raise explain(
                f"input {url}", found="no file there", needed="files, folders or globs", fix="Check the name."
            )
        return [
            (
                system.unstrip_protocol(name),
                name.removeprefix(base).lstrip("/") if base else name.rpartition("/")[2],
                _stamp(info),
            )
            for name, info in files.items()
        ]


def _stamp(info: dict[str, Any]) -> str:
    """Changes when the file does, as far as its store says."""
    told = (info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created"))
    return f"{info.get('size')}-{next((str(value) for value in told if value), '')}"


def fetch(url: str, file: Path) -> None:
    """Copy a file from a URL; raises UserError where it cannot be read."""
    with _at(url) as (system, path):
        file.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(path, str(file))


class Place:
    """A folder for results, on a disk or at a URL.

    Attributes:
        path: of the folder; None: it is at a URL.
    """

    def __init__(self, where: str | Path) -> None:
        self.where = str(where).rstrip("/") if is_url(where) else str(local_path(where))
        self.path = None if is_url(where) else local_path(where)

    def put(self, file: Path, name: str) -> None:
        """Move a local file there, whole; raises UserError where that cannot be."""
        assert self.path is None, "local results are written in place"
        url = f"{self.where}/{name}"
        with _at(url) as (system, path):
            whole = urlsplit(url).scheme in _ATOMIC
            target = path if whole else f"{path}.tmp"
            if not whole:
                system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.put_file(str(file), target)
            if not whole:
                system.mv(target, path)
        file.unlink()

    def digest(self, name: str) -> str:
        """SHA-256 of a file there; "" where it cannot be read."""
        try:
            if self.path is not None:
                return file_digest(self.path / name)
            with _at(f"{self.where}/{name}") as (system, path), system.open(path, "rb") as file:
                found = hashlib.sha256()
                while chunk := file.read(1 << 20):
                    found.update(chunk)
                return found.hexdigest()
        except UserError:
            return ""

    def rows(self) -> dict[str, Row]:
        """As `read_rows`."""
        if self.path is not None:
            return read_rows(self.path)
        with _at(self.where) as (system, path):
            if not system.exists(path):
                return {}
            files = sorted(system.glob(f"{path}/manifest-*.jsonl"), key=lambda name: name.rpartition("-")[2])
            return {row.name: row for file in files for row in parse_rows(system.cat_file(file))}

    @contextmanager
    def manifest(self, shard: Shard) -> Iterator[Rows]:
        """Where the shard's rows go: appended to its file, or in parts to a URL, the last 5 seconds at the end."""
        if self.path is not None:
            with Manifest(self.path, shard) as manifest:
                yield manifest
            return
        parts = _Parts(self, f"manifest-{shard.index:05d}-of-{shard.count:05d}")
        try:
            yield parts
        finally:
            parts.flush()


class _Parts:
    """Rows at a URL, an object every few seconds."""

    def __init__(self, place: Place, name: str) -> None:
        self._place, self._name, self._lock = place, name, Lock()
        self._lines: list[bytes] = []
        self._flushed = time.monotonic()

    def add(self, row: Row) -> None:
        with self._lock:
            self._lines.append(row.line())
            if time.monotonic() - self._flushed > _FLUSH_AFTER:
                self._write()

    def flush(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self._lines:
            url = f"{self._place.where}/{self._name}-{time.time_ns():020d}.jsonl"
            with _at(url) as (system, path):
                if urlsplit(url).scheme not in _ATOMIC:
                    system.makedirs(path.rpartition("/")[0], exist_ok=True)
                system.pipe_file(path, b"".join(self._lines))
        self._lines, self._flushed = [], time.monotonic()
