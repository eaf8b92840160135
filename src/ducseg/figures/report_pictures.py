"""The parts of a report that are pictures: the worst and the median ones, and how predictions grew in training."""

from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.figures.errors_overlay import ALARM, HIT, MISS, draw_errors, wrong_colour
from ducseg.figures.evaluation_folder import Evaluated, Shown
from ducseg.figures.label_maps import colourise, present_classes
from ducseg.figures.page import Section, gallery, key, paragraph, picture
from ducseg.figures.run_results import RunResults, as_percent

__all__ = ["pictures_section", "samples_section"]

_WIDEST = 900  # pixels of an embedded picture
_QUALITY = 88
_MOST_STEPS = 5


def pictures_section(named: dict[str, RunResults]) -> list[Section]:
    """The pictures that the first run with an evaluation got worst, and those in the middle, as each labels them."""
    evaluated = {name: run.evaluations for name, run in named.items() if run.evaluations}
    sections = []
    for split in dict.fromkeys(split for evaluations in evaluated.values() for split in evaluations):
        found = {name: evaluations[split] for name, evaluations in evaluated.items() if split in evaluations}
        first = next(iter(found.values()))
        parts = [key(_meaning(first)), paragraph(_how_chosen(first))]
        for shown in first.shown:
            parts += [f"<h3>{_heading(shown)}</h3>", gallery(_row(shown, found), least=300)]
        sections.append(Section(f"Pictures of {split}", tuple(parts)))
    return sections


def _how_chosen(found: Evaluated) -> str:
    return (
        f"The worst and the middle ones of {len(found.picture_iou)} pictures by their own mean IoU. Pixels that do not "
        "count stay grey."
    )


def _heading(shown: Shown) -> str:
    rank = "among the worst" if shown.kind == "worst" else "in the middle"
    return f"{escape(shown.id)}: {as_percent(shown.mean_iou)} %, {rank}"


def _row(shown: Shown, found: dict[str, Evaluated]) -> list[str]:
    first = next(iter(found.values()))
    row = [_embedded(shown.image, "the picture")]
    if _object_class(first) is None:
        row.append(_embedded(colourise(shown.truth, first.classes), "the truth"))
    wrong = wrong_colour(first.classes.palette)
    for name, one in found.items():
        same = next((other for other in one.shown if other.id == shown.id), None)
        if same is None or one.classes.names != first.classes.names or not np.array_equal(same.truth, shown.truth):
            continue  # of other data, by chance of the same name
        whose = f" of {name}" if len(found) > 1 else ""
        if _object_class(first) is None:
            row.append(_embedded(colourise(same.prediction, first.classes), f"the prediction{whose}"))
        errors = draw_errors(same.image, same.truth, same.prediction, _object_class(first), wrong=wrong)
        row.append(_embedded(errors, f"right and wrong{whose}"))
        if len(found) == 1:
            row.append(_embedded(_closer(errors, same), "closer, where most is wrong"))
    return row


def _closer(errors: NDArray[np.uint8], shown: Shown) -> NDArray[np.uint8]:
    """The third of the picture, along each side, with the most wrong pixels, enlarged to its size."""
    height, width = shown.truth.shape
    rows, columns = max(1, height // 3), max(1, width // 3)
    wrong = ((shown.truth != IGNORE) & (shown.truth != shown.prediction)).astype(np.float32)
    counts = cv2.boxFilter(wrong, -1, (columns, rows), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    whole = counts[: height - rows + 1, : width - columns + 1]
    top, left = np.unravel_index(int(whole.argmax()), whole.shape)
    part = np.ascontiguousarray(errors[top : top + rows, left : left + columns])
    size = (min(width, _WIDEST), round(min(width, _WIDEST) * height / width))
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _meaning(found: Evaluated) -> list[tuple[str, tuple[int, int, int]]]:
    objects = _object_class(found)
    if objects is not None:
        name = found.classes.names[objects]
        return [(f"{name}, found", HIT), (f"{name}, missed", MISS), (f"false alarm: no {name}", ALARM)]
    seen = {index for shown in found.shown for index in present_classes(shown.truth, found.classes)}
    return [
        ("wrong, on the grey picture", wrong_colour(found.classes.palette)),
        *((found.classes.names[index], found.classes.palette[index]) for index in sorted(seen)),
    ]


def _object_class(found: Evaluated) -> int | None:
    """The rarer of two classes; None of more."""
    return int(found.matrix.sum(1).argmin()) if len(found.classes) == 2 else None


def samples_section(named: dict[str, RunResults]) -> Section:
    """Predictions of the same pictures at up to five evaluations spread over training."""
    parts = []
    for name, run in named.items():
        classes = run.classes
        for followed in run.samples if classes is not None else []:
            assert classes is not None
            steps = list(followed.predictions)
            chosen = [
                steps[i] for i in sorted({*np.linspace(0, len(steps) - 1, min(_MOST_STEPS, len(steps))).astype(int)})
            ]
            pictures = [_embedded(followed.image, "the picture")]
            pictures += [_embedded(colourise(followed.predictions[s], classes), f"after step {s}") for s in chosen]
            pictures.append(_embedded(colourise(followed.truth, classes), "the truth"))
            whose = f", {escape(name)}" if len(named) > 1 else ""
            parts += [f"<h3>{escape(followed.id)}{whose}</h3>", gallery(pictures, least=150)]
    return Section("Predictions while training", tuple(parts))


def _embedded(rgb: NDArray[np.uint8], caption: str) -> str:
    """Shrunk by averaging, so that thin objects fade instead of vanishing."""
    height, width = rgb.shape[:2]
    if width > _WIDEST:
        rgb = np.asarray(cv2.resize(rgb, (_WIDEST, round(height * _WIDEST / width)), interpolation=cv2.INTER_AREA))
    return picture(rgb, caption, quality=_QUALITY)
