"""Files and folders that are whole or not there, compiled code kept on disk, and where a run's checkpoints lie."""

import contextlib
import errno
import importlib.util
import json
import mmap
import os
import re
import shutil
import sys
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from ducseg.errors import Said, explain

__all__ = [
    "PLAN",
    "SYSTEM_FOLDERS",
    "as_spelled",
    "compiled",
    "composed",
    "files_below",
    "find_checkpoint",
    "folded_name",
    "is_hidden",
    "is_listed",
    "is_there",
    "parse_json",
    "remove_folder",
    "rename",
    "sweep_folder",
    "sweep_unfinished",
    "sync",
    "visible",
    "whole_file",
    "whole_folder",
    "write_whole",
]

PLAN = "plan.txt"
"""In the run folder of a planned run (`ducseg train DIR`): why its configuration is as it is, a line a setting."""


SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "__pycache__", "$recycle.bin", "lost+found"})
"""Of systems and programs that do not hide them by a dot; in small letters."""

_UNFINISHED = re.compile(r"\.(.+)\.\d+\.tmp(\.[^.]*)?", re.DOTALL)


@contextmanager
def whole_file(path: Path, *, option: str = "--out") -> Iterator[Path]:
    """Yield a temporary path of the same ending in the same folder, made if need be; renamed to `path` at the end.

    Args:
        option: of the command line that chose the place, for the message.

    Raises:
        UserError: the folder is not writable or the disk is full; what was there before stays, as after any exception.
    """
    if not path.name:
        raise explain(option, found=f"{str(path)!r}", needed="the name of a file", fix="Add one.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        with _explained(path, option):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            rename(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def rename(source: Path, target: Path) -> None:
    """`Path.replace`; on Windows tried for a second and a half, as scanners look for a moment into what was written."""
    for pause in (0.1, 0.2, 0.4, 0.8, 0.0) if os.name == "nt" else (0.0,):
        try:
            source.replace(target)
        except PermissionError:
            if not pause:
                raise
            time.sleep(pause)
        else:
            return


def sweep_unfinished(paths: Iterable[Path]) -> None:
    """Remove what killed processes left of `whole_file` for these paths; no other process may be writing them."""
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, wanted in names.items():
        with contextlib.suppress(FileNotFoundError):
            for file in folder.iterdir():
                found = _UNFINISHED.fullmatch(file.name)
                if found and found[1] in wanted:
                    file.unlink(missing_ok=True)


def sweep_folder(folder: Path) -> None:
    """Remove what killed processes left of `whole_file` in a folder, of any name; no other process may write there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for file in folder.iterdir():
            if _UNFINISHED.fullmatch(file.name):
                file.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, *, option: str = "--out") -> None:
    """Write `data` as `whole_file`.

    Raises:
        UserError: the folder is not writable or the disk is full; what was there before stays.
    """
    with whole_file(path, option=option) as temporary:
        temporary.write_bytes(data)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it is there, with all in it; where the disk refuses twice a line says that it is left."""
    for last in (False, True):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if not folder.is_dir():
                return
            if last:
                reason = error.strerror or str(error)
                warnings.warn(f"left over: {folder}, which could not be removed ({reason})", Said, stacklevel=2)
        else:
            return


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder beside `path`; renamed to `path` at the end, removed after any exception.

    Raises:
        UserError: something is there already, the place is not writable, the disk is full.
    """
    if path.exists():
        raise explain(f"folder {path}", found="one already", needed="none yet", fix="Use it, or move it away first.")
    temporary = path.with_name(f".{path.name}.unfinished")
    try:
        with _explained(path):
            remove_folder(temporary)  # of a run that was killed
            temporary.mkdir(parents=True)
        yield temporary
        with _explained(path):
            rename(temporary, path)
    finally:
        remove_folder(temporary)


@contextmanager
def _explained(path: Path, option: str = "--out") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(
            f"output {path}",
            found=error.strerror or str(error),
            needed="a folder that can be written, on a disk with room",
            fix=f"Choose another {option}.",
        ) from error


def sync(path: Path) -> None:
    """Let a file, or the names in a folder, reach the disk; of a folder only where the file system can be asked to.

    Raises:
        OSError: the disk does not take the file.
    """
    folder = path.is_dir()
    with contextlib.suppress(OSError) if folder else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows syncs only what may be written
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def files_below(folder: Path, *, follow: bool = False) -> list[Path]:
    """The files in a folder and in those below it but for hidden ones, sorted; `follow`: where links lead to, too.

    Raises:
        UserError: one of them may not be listed, which pathlib's `rglob` takes for empty.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):  # it is none, or went meanwhile
            raise explain(
                f"folder {error.filename}",
                found=error.strerror or str(error),
                needed="one that can be listed",
                fix="Change who may read it, or move it elsewhere.",
            ) from error

    found: list[Path] = []
    for parent, inside, names in os.walk(folder, onerror=refuse, followlinks=follow):
        inside[:] = (name for name in inside if not is_hidden(PurePath(name)))
        found += (Path(parent, name) for name in names if not is_hidden(PurePath(name)))
    return sorted(found)


def visible(folder: Path, *patterns: str) -> list[Path]:
    """What lies in a folder and is called like one of the patterns, sorted, but for what is hidden."""
    return sorted(one for pattern in patterns for one in folder.glob(pattern) if not is_hidden(Path(one.name)))


def is_hidden(path: PurePath) -> bool:
    """Whether a relative path is, or lies in, what systems and programs keep for themselves: `._x.png` beside x.png."""
    return any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in path.parts)


def composed(name: str) -> str:
    """A name with its accents as part of their letters (Unicode's NFC); macOS stores some names with both apart."""
    return unicodedata.normalize("NFC", name)


def folded_name(name: PurePath | str) -> str:
    """What names have alike that are one file's on macOS and Windows: letters but for capitals, accents, separators."""
    return composed(PurePath(name).as_posix()).casefold()


def as_spelled(path: Path) -> Path:
    """The path; where it is not there, the one of the same letters that is, their accents apart or not."""
    spelled = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return path if is_there(path) else next(filter(is_there, spelled), path)


def is_there(path: Path) -> bool:
    """`Path.exists`; False too for a name that no file can have, out of some other file."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_listed(path: Path) -> bool:
    """Whether a file, or a link to nothing, as git-annex and DVC leave them: who reads it says what is missing."""
    with contextlib.suppress(OSError, ValueError):
        if path.is_file():
            return True
    return path.is_symlink() and not is_there(path)


def parse_json(text: str | bytes, **options: Any) -> Any:
    """`json.loads`; what is nested too deeply is a ValueError too, like all else that is no JSON."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's `njit(**options)`, its result kept on disk; without any writable place compiled anew by each process."""
    from numba import njit

    _load_blas()

    def compile_it(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # a read-only install and no home
            return njit(**options)(function)

    return compile_it


def _load_blas() -> None:
    """scipy's OpenBLAS, as numba does at the first kernel: with too little memory its start would wait without end."""
    if "scipy.linalg" in sys.modules or importlib.util.find_spec("scipy") is None:
        return
    try:
        mmap.mmap(-1, _BLAS_BYTES).close()
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise MemoryError from error
    importlib.import_module("scipy.linalg")


_BLAS_BYTES = 128 << 20
"""Its start hangs with 38 to 68 MiB, on two cores."""


def find_checkpoint(path: Path) -> Path | None:
    """The folder with `model.json` that `path` is or holds as `best` or `last`, None if there is none.

    `best` and `last` may be files that hold a path, where the file system has no links. A run that was copied without
    them is looked through: the newest of its `checkpoints/` names the best.
    """
    for candidate in (path, path / "best", path / "last"):
        if candidate.is_file():
            with candidate.open(encoding="utf-8", errors="replace") as file:
                pointer = file.readline(1024).strip()
            if not pointer:
                continue
            candidate = candidate.parent / pointer
        with contextlib.suppress(OSError, ValueError):  # a name that none can have, out of some other file
            if (candidate / "model.json").is_file():
                return candidate
    whole = sorted(file.parent for file in path.glob("checkpoints/step-*/model.json"))
    if not whole:
        return None
    try:
        evaluations = parse_json((whole[-1] / "model.json").read_text(encoding="utf-8"))["extra"]["evaluations"]
        best = path / "checkpoints" / f"step-{evaluations['best_step']:08d}"
    except (OSError, ValueError, KeyError, TypeError):  # none was scored
        return whole[-1]
    return best if best in whole else whole[-1]
