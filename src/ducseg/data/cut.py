"""Cut the patches of a data set to disk once, so an epoch never decodes a whole frame, and read them back.

Layout: images/SPLIT/ID.png, labels/SPLIT/ID.png (train ids, 255 ignored), classes.json, and patches-SPLIT.json, the
record of what they were cut from and whether all are there. Any reader of `split-folders` reads it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ducseg.classes import ClassSet, Colour
from ducseg.data.files.png import encode_png
from ducseg.data.paired import PairedFiles, SegmentationDataset, match_pairs, pictures_in
from ducseg.data.patches import Patches
from ducseg.data.processes import mapped
from ducseg.data.resampling import Fill
from ducseg.data.transforms import IMAGENET_MEAN_COLOUR
from ducseg.errors import explain, taken_apart
from ducseg.files import parse_json, sweep_folder, sweep_unfinished, write_whole

__all__ = ["CutPatches", "cut_patches"]

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class _Record:
    scheme: str
    mean_colour: Colour
    num_frames: int
    num_patches: int
    ids_sha256: str
    """Of the patches' ids, one a line: the same frames give the same."""
    complete: bool = False


class CutPatches(PairedFiles):
    """Patches that `cut_patches` wrote, as a data set of ordinary pictures.

    Args:
        root: the folder with patches-SPLIT.json.
        split: "train", ...
        scheme: that they must have; None: any.
        frames: ids of the frames that they must be cut from, all and no others (a fold's); None: any.
        mean_colour: that what lies outside their frames must have, for it is the network's zero; None: any.

    Raises:
        UserError: no such patches, patches of another scheme or of other frames, cutting that was not finished, files
            missing.
    """

    def __init__(
        self,
        root: Path | str,
        split: str,
        scheme: str | None = None,
        *,
        frames: Sequence[str] | None = None,
        mean_colour: Fill | None = None,
    ) -> None:
        root = Path(root)
        record = _read_record(root, split)
        again = "Run ducseg data patches again: it goes on where it was."
        if record is None:
            raise explain(
                f"patches in {root}",
                found=f"no patches-{split}.json",
                needed="a folder that ducseg data patches wrote",
                fix="Cut them first: ducseg data patches DATASET ROOT --out DIR --scheme 12-fold.",
            )
        if scheme is not None and record.scheme != scheme:
            raise explain(
                f"patches in {root}",
                found=f"scheme {record.scheme}",
                needed=f"scheme {scheme}",
                fix="Cut that scheme into another folder, or set --data.patches to this one.",
            )
        if not record.complete:
            raise explain(f"patches in {root}", found="cutting was not finished", needed="all patches", fix=again)
        reaches_outside = record.scheme != "12-fold"
        if reaches_outside and mean_colour not in (None, record.mean_colour):
            raise explain(
                f"patches in {root}",
                found=f"filled with {record.mean_colour} outside their frames",
                needed=f"{mean_colour}, the mean colour of the network's preprocessing",
                fix="Cut them again with ducseg data patches ... --mean-colour of this colour.",
            )
        folders = [root / kind / split for kind in ("images", "labels")]
        images, labels = (pictures_in(folder) if folder.is_dir() else {} for folder in folders)
        super().__init__(ClassSet.read(root / "classes.json"), match_pairs(images, labels, f"{root} ({split})"))
        if len(self) != record.num_patches:
            raise explain(f"patches in {root}", found=len(self), needed=f"{record.num_patches} of {split}", fix=again)
        if frames is not None:
            _check_frames(root, {name.rpartition("_")[0] for name in self.ids}, set(frames))


def _check_frames(root: Path, cut: set[str], wanted: set[str]) -> None:
    if cut != wanted:
        differing = sorted(cut ^ wanted)
        raise explain(
            f"patches in {root}",
            found=f"patches of {len(cut)} frames, of which {len(cut & wanted)} are wanted (not {differing[0]}, ...)",
            needed=f"those of the {len(wanted)} frames of this split and fold",
            fix="Cut these frames into another folder.",
        )


def cut_patches(
    dataset: SegmentationDataset,
    out: Path | str,
    scheme: str,
    *,
    split: str = "train",
    mean_colour: Colour = IMAGENET_MEAN_COLOUR,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the patches of each frame as PNG; files that are there already stay, so a stopped run goes on.

    Args:
        dataset: whole frames with labels.
        out: folder to make or go on in.
        scheme: a key of `ducseg.data.patches.SCHEMES`; 7-fold patches contain the margin in which they move.
        split: name of the sub-folders.
        mean_colour: of what lies outside a frame.
        num_workers: processes, one frame at a time each.
        progress: called with (done, total) frames.

    Returns:
        The number of patches, written now or before.

    Raises:
        UserError: another scheme's, other frames' or foreign files in `out`, too little room on the disk, frames that
            do not read.
    """
    out, patches = Path(out), Patches(dataset, scheme, mean_colour=mean_colour)
    record = _Record(
        scheme=scheme,
        mean_colour=mean_colour,
        num_frames=len(dataset),
        num_patches=len(patches),
        ids_sha256=hashlib.sha256("\n".join(patches.ids).encode(errors="surrogateescape")).hexdigest(),
    )
    _check_folder(out, split, record)
    _check_classes(out, dataset.classes)
    cutter = _Cutter(patches, out, split)
    frames = cutter.unfinished()
    if frames:
        _check_room(cutter, frames)
    _write_record(out, split, record)
    dataset.classes.write(out / "classes.json")
    for done, _ in enumerate(mapped(cutter, frames, num_workers, chunk=1), len(dataset) - len(frames) + 1):
        if progress is not None:
            progress(done, len(dataset))
    _write_record(out, split, replace(record, complete=True))
    return len(patches)


@dataclass(frozen=True)
class _Cutter:
    """Called with a frame's number, writes its patches."""

    patches: Patches
    out: Path
    split: str

    def __call__(self, frame: int) -> None:
        for path, data in self.files(frame):
            write_whole(path, data)

    def files(self, frame: int) -> list[tuple[Path, bytes]]:
        """Paths and PNG files of a frame's patches."""
        files = []
        for sample in self.patches.of_frame(frame):
            if sample.label is None:
                raise explain(f"frame {sample.id}", found="no label", needed="one", fix="Use a labelled split.")
            files.append((self._path("images", sample.id), encode_png(sample.image)))
            files.append((self._path("labels", sample.id), encode_png(sample.label)))
        return files

    def _path(self, kind: str, name: str) -> Path:
        return self.out / kind / self.split / f"{name}.png"

    def unfinished(self) -> list[int]:
        """The frames with a patch that is not there; files are there whole or not at all."""
        there = [set(_files_in(self.out / kind / self.split)) for kind in ("images", "labels")]
        names = self.patches.ids
        return [
            frame
            for frame in range(len(self.patches.frames))
            if not all(f"{names[index]}.png" in files for index in self.patches.indices(frame) for files in there)
        ]


def _files_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


def _check_folder(out: Path, split: str, record: _Record) -> None:
    """Refuse files that are not earlier patches of the same frames and scheme; clear what a killed run left half."""
    earlier = _read_record(out, split)
    folders = [out / kind / split for kind in ("images", "labels")]
    if earlier is None:
        strange = [str(folder.relative_to(out)) for folder in folders if _files_in(folder)]
        if strange:
            raise explain(
                f"folder {out}",
                found=f"other files in {' and '.join(strange)}",
                needed="a new folder",
                fix="Choose another --out.",
            )
    elif replace(earlier, complete=False) != record:
        raise explain(
            f"folder {out}",
            found=f"patches of {split}: {_said(earlier)}" + _also_ids(earlier, record),
            needed=_said(record),
            fix="Choose another --out, or remove these.",
        )
    sweep_unfinished([out / "classes.json", _record_path(out, split)])
    for folder in folders:
        sweep_folder(folder)


def _check_classes(out: Path, classes: ClassSet) -> None:
    """Refuse a folder whose earlier patches are of other classes: its classes.json is theirs."""
    path = out / "classes.json"
    if path.exists() and (there := ClassSet.read(path)) != classes:
        raise explain(
            f"folder {out}",
            found=f"patches with the classes {', '.join(there.names[:4])}, ...",
            needed=f"those of this data set ({', '.join(classes.names[:4])}, ...)",
            fix="Choose another --out.",
        )


def _said(record: _Record) -> str:
    frames = f"{record.num_patches} of {record.num_frames} frames"
    return f"scheme {record.scheme}, {frames}, filled with {record.mean_colour}"


def _also_ids(earlier: _Record, record: _Record) -> str:
    return "" if earlier.ids_sha256 == record.ids_sha256 else ", of other frames"


def _check_room(cutter: _Cutter, frames: list[int]) -> None:
    """Compare the disk's room with the first frame's patches times the number of frames."""
    needed = len(frames) * sum(len(data) + 4096 for _, data in cutter.files(frames[0]))  # files fill whole blocks
    there = next(folder for folder in (cutter.out, *cutter.out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise explain(
            f"disk of {cutter.out}",
            found=f"{free / _GIB:.1f} GiB free",
            needed=f"about {needed / _GIB:.1f} GiB for the patches of {len(frames)} frames",
            fix="Choose another --out, or leave --data.patches-root out: then patches are cut on the fly.",
        )


def _record_path(root: Path, split: str) -> Path:
    return root / f"patches-{split}.json"


def _read_record(root: Path, split: str) -> _Record | None:
    path = _record_path(root, split)
    if not path.is_file():
        return None
    needed = "what ducseg data patches wrote"
    with taken_apart(f"record {path}", found="no record", needed=needed, fix="Cut into a new folder."):
        values = parse_json(path.read_text(encoding="utf-8"))
        red, green, blue = values.pop("mean_colour")
        return _Record(**values, mean_colour=(red, green, blue))


def _write_record(root: Path, split: str, record: _Record) -> None:
    write_whole(_record_path(root, split), (json.dumps(asdict(record), indent=1) + "\n").encode())
