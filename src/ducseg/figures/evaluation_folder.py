"""What `ducseg eval --store` and training leave in a run folder for `ducseg report`: scores, and pictures to look at.

    RUN/evaluation/SPLIT/scores.json   {"scores", "matrix", "classes", "pictures": {id: IoU}, "overlaps": {id: counts},
                                       "shown": [...], "about"}
    RUN/evaluation/SPLIT/K.jpg         picture K of those shown
    RUN/evaluation/SPLIT/K-truth.png   its truth and its prediction, class indices, 255 ignored
    RUN/evaluation/SPLIT/K-labels.png
    RUN/samples/K.jpg, K-truth.png     picture K of those followed through training, and the name of each in names.json
    RUN/samples/K-STEP.png             its prediction after that step

Nothing here knows a network: whoever has one gives label maps.
"""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.figures.label_maps import as_rgb, write_png
from ducseg.files import parse_json, remove_folder, write_whole
from ducseg.metrics.confusion import write_json

__all__ = [
    "Evaluated", "Followed", "Shown", "middle", "pick_pictures", "read_evaluations", "read_samples", "split_name",
    "write_evaluation", "write_sample",
]  # fmt: skip

_JPEG_QUALITY = 90
_SAMPLE_SIDE = 512  # pixels; of larger pictures the middle is followed

Pictures = Literal["worst", "median"]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture to look at (H, W, C), its truth and its prediction (H, W), and why it was chosen."""

    id: str
    kind: Pictures
    mean_iou: float
    image: NDArray[Any]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One evaluation of one split.

    Attributes:
        scores: as `ducseg.metrics.confusion.scores` gives them, with "thin" as `ThinCounts.scores`.
        matrix: int64 (L, L), rows = truth.
        picture_iou: each picture's own mean IoU.
        overlaps: each picture's counts, as `ducseg.metrics.intervals.overlap` has them; {} where none were stored.
        about: what was evaluated: the step, the command.
    """

    scores: dict[str, Any]
    matrix: NDArray[np.int64]
    classes: ClassSet
    picture_iou: dict[str, float]
    overlaps: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    shown: tuple[Shown, ...]
    about: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A picture that training predicted at each evaluation: RGB (H, W, 3), truth (H, W), step -> labels (H, W)."""

    id: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    predictions: dict[int, NDArray[np.uint8]]


def pick_pictures(picture_iou: dict[int, float], *, each: int = 3) -> list[tuple[int, Pictures]]:
    """The indices of the worst pictures, worst first, and of those in the middle; none twice, NaN left out."""
    ranked = sorted(
        (index for index, iou in picture_iou.items() if not np.isnan(iou)), key=lambda i: (picture_iou[i], i)
    )
    each = min(each, max(1, len(ranked) // 2))
    worst = ranked[:each]
    middle = max(len(worst), (len(ranked) - each) // 2)
    return [(index, "worst") for index in worst] + [(index, "median") for index in ranked[middle : middle + each]]


def split_name(split: str) -> str:
    """What a split is called in a folder's name: of a list of names in a text file, the file's."""
    return Path(split).stem


def write_evaluation(run: Path, split: str, found: Evaluated) -> Path:
    """Write RUN/evaluation/SPLIT anew and return it; SPLIT is `split_name(split)`.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    folder = run / "evaluation" / split_name(split)
    with contextlib.suppress(OSError):
        (folder / "scores.json").unlink()  # first: they are not to be read without their pictures
    remove_folder(folder)
    shown = []
    for number, one in enumerate(found.shown):
        _write_jpeg(folder / f"{number}.jpg", one.image)
        write_png(folder / f"{number}-truth.png", one.truth)
        write_png(folder / f"{number}-labels.png", one.prediction)
        shown.append({"id": one.id, "kind": one.kind, "mean_iou": one.mean_iou})
    write_json(
        folder / "scores.json",
        {
            "scores": found.scores,
            "matrix": found.matrix.tolist(),
            "classes": found.classes.to_json(),
            "pictures": found.picture_iou,
            "overlaps": {name: counts.tolist() for name, counts in found.overlaps.items()},
            "shown": shown,
            "about": found.about,
        },
    )
    return folder


def read_evaluations(run: Path) -> dict[str, Evaluated]:
    """The stored evaluations of a run by split; {} if there are none."""
    found = {}
    for path in sorted((run / "evaluation").glob("*/scores.json")):
        stored = parse_json(path.read_text(encoding="utf-8"))
        found[path.parent.name] = Evaluated(
            scores=stored["scores"],
            matrix=np.array(stored["matrix"], np.int64),
            classes=ClassSet.from_json(stored["classes"]),
            picture_iou=stored["pictures"],
            overlaps={name: np.array(counts, np.int64) for name, counts in stored.get("overlaps", {}).items()},
            shown=tuple(
                Shown(
                    **entry,
                    image=_read(path.parent / f"{number}.jpg"),
                    truth=_read(path.parent / f"{number}-truth.png"),
                    prediction=_read(path.parent / f"{number}-labels.png"),
                )
                for number, entry in enumerate(stored["shown"])
            ),
            about=stored["about"],
        )
    return found


def write_sample(
    run: Path,
    number: int,
    step: int,
    *,
    name: str,
    image: NDArray[Any],
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
) -> None:
    """Keep the prediction (H, W) of picture `number` after `step`; of a large picture the middle 512x512.

    The picture's name is written last: without it, whatever else a stopped run left of it is written anew.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    folder = run / "samples"
    names = _names(folder)
    if str(number) not in names:
        _write_jpeg(folder / f"{number}.jpg", middle(image))
        write_png(folder / f"{number}-truth.png", middle(truth))
        names[str(number)] = name
        write_whole(folder / "names.json", json.dumps(names).encode())
    write_png(folder / f"{number}-{step}.png", middle(prediction))


def read_samples(run: Path) -> list[Followed]:
    """The pictures followed through training, with all their predictions by step."""
    folder, found = run / "samples", []
    for number, name in sorted(_names(folder).items()):
        steps = sorted(int(path.stem.partition("-")[2]) for path in folder.glob(f"{number}-[0-9]*.png"))
        found.append(
            Followed(
                id=name,
                image=_read(folder / f"{number}.jpg"),
                truth=_read(folder / f"{number}-truth.png"),
                predictions={step: _read(folder / f"{number}-{step}.png") for step in steps},
            )
        )
    return found


def _names(folder: Path) -> dict[str, str]:
    try:
        return dict(parse_json((folder / "names.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def middle(picture: NDArray[Any]) -> NDArray[Any]:
    """What is followed of a picture (H, W) or (H, W, C): its middle, 512x512 pixels at most."""
    top, left = (max(0, (side - _SAMPLE_SIDE) // 2) for side in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + _SAMPLE_SIDE, left : left + _SAMPLE_SIDE])


def _write_jpeg(path: Path, picture: NDArray[Any]) -> None:
    bgr = cv2.cvtColor(as_rgb(picture), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done, picture.shape
    write_whole(path, data.tobytes())


def _read(path: Path) -> NDArray[np.uint8]:
    stored = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored is not None, path
    return np.asarray(stored if stored.ndim == 2 else cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), np.uint8)
