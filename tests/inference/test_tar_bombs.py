"""Tars and stores whose entries take more than they are, or lie elsewhere."""

import gzip
import tarfile
import tracemalloc
from pathlib import Path

import fsspec
import pytest

from ducseg.errors import UserError
from ducseg.inference.places import list_url
from ducseg.inference.tars import list_members


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_name_of_megabytes_is_refused(kind: bytes, tmp_path: Path) -> None:
    """Compressed it is a few kB, and tarfile reads it into memory."""
    info, tar = tarfile.TarInfo("name"), tmp_path / "a.tar.gz"
    info.type, info.size = kind, 8 << 20
    with gzip.open(tar, "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + b"a" * info.size + bytes(1024))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"a\.tar\.gz"):
            list(list_members(tar))
        assert tracemalloc.get_traced_memory()[1] < info.size
    finally:
        tracemalloc.stop()


def test_entries_are_not_kept(tmp_path: Path) -> None:
    """Nor long names refused."""
    tar, name = tmp_path / "a.tar", f"{'long/' * 100}a.png"
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(300):
            archive.addfile(tarfile.TarInfo(f"{number}-{name}"))
    kept = [len(archive.members) for _, _, archive in list_members(tar)]
    assert (len(kept), max(kept)) == (300, 0)


def test_objects_of_a_store_stay_below_its_folder() -> None:
    """Whose names are any text; results are called after them."""
    store = fsspec.filesystem("memory")
    store.pipe("/strange-names/a.png", b"x")
    for name in ("//tmp/b.png", "/../../c.png"):
        store.store[f"/strange-names{name}"] = store.store["/strange-names/a.png"]
    try:
        assert sorted(name for _, name, _ in list_url("memory://strange-names")) == ["a.png", "tmp/b.png"]
    finally:
        for name in [one for one in store.store if one.startswith("/strange-names")]:
            del store.store[name]
