"""Files and folders are whole or not there; compiled code runs also where there is no place to keep it."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

import ducseg
from ducseg.errors import Said, UserError
from ducseg.files import remove_folder, sync, whole_file, whole_folder, write_whole


def test_a_file_appears_whole_and_its_folder_is_made(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a" / "x.png") as temporary:
        temporary.write_bytes(b"one")
        assert temporary.suffix == ".png"
        assert not (tmp_path / "a" / "x.png").exists()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["x.png"]
    with pytest.raises(KeyError), whole_file(tmp_path / "a" / "x.png") as temporary:
        temporary.write_bytes(b"two")
        raise KeyError
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "a").iterdir()] == [("x.png", b"one")]


def test_a_place_that_takes_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (lambda path: write_whole(path, b""), lambda path: whole_folder(path).__enter__()):
        with pytest.raises(UserError, match=r"output .*file/x: found (File exists|Not a directory); needed a folder"):
            write(tmp_path / "file" / "x")


@pytest.mark.parametrize("times", [1, 2])
def test_a_folder_that_cannot_be_removed_is_tried_again_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    fails, remove = [OSError(errno.EIO, "Input/output error")] * times, shutil.rmtree

    def removed(folder: Path) -> None:
        if fails:
            raise fails.pop()
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", removed)
    left = pytest.warns(Said, match=rf"left over: {tmp_path}/x, which could not be removed \(Input/output error\)")
    with left if times == 2 else nullcontext():
        remove_folder(tmp_path / "x")
    assert (tmp_path / "x").exists() == (times == 2)
    fails.clear()
    remove_folder(tmp_path / "none")


def test_a_folder_appears_whole_without_what_was_left_before(tmp_path: Path) -> None:
    (tmp_path / ".out.unfinished").mkdir()
    (tmp_path / ".out.unfinished" / "old").touch()
    with whole_folder(tmp_path / "out") as folder:
        (folder / "new").touch()
        assert not (tmp_path / "out").exists()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["out", "out/new"]
    with pytest.raises(UserError, match="out: found one already"), whole_folder(tmp_path / "out"):
        pass
    with pytest.raises(KeyError), whole_folder(tmp_path / "other") as folder:
        (folder / "half").touch()
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_synced_is_open_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to sync what is open for reading alone."""
    (tmp_path / "file").write_bytes(b"kept")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.write(descriptor, b"")))
    sync(tmp_path / "file")
    sync(tmp_path)  # a folder cannot be: as far as the system lets it
    assert synced == [0] and (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write")
def test_a_plain_png_reads_on_a_read_only_install_without_a_home(tmp_path: Path) -> None:
    """numba raises at import where it finds no place for its cache: neither beside the file nor in a home."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(ducseg.__file__).parents[1])!r})
from pathlib import Path
import numpy as np
from numba.core import caching
def refuse(self):
    raise OSError(30, "Read-only file system")
caching._CacheLocator.ensure_cache_path = refuse
from PIL import Image
pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3)).astype(np.uint8)
Image.fromarray(pixels).save({str(tmp_path / "a.png")!r})
from ducseg.data.files.reading import read_image
assert (read_image(Path({str(tmp_path / "a.png")!r})) == pixels).all()
"""
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**environment, "HOME": "/proc/none"}
    )
    assert done.returncode == 0, done.stderr
