"""Questions of ours around the paper's claims: each table changes one or two things of one network and nothing else.

The network is the paper's DUC on the bigger patch, without ASPP, cell 2, rates 2 and 4, stride 8, where a row does not
say otherwise.
"""

from collections.abc import Mapping
from typing import Any

from ducseg.experiments.ablations.rows import Row, Scoring, Table
from ducseg.experiments.cityscapes import cityscapes_duc_aspp6_cell2, cityscapes_duc_bigger_patch

__all__ = ["QUESTIONS"]

_HEADS = {"bilinear": "bilinear", "duc": "DUC", "deconv": "one deconvolution", "deconv2": "two deconvolutions"}
_SCHEDULES = ("none", "dilated", "conv", "rf", "bigger", "released")


def _row(name: str, title: str, *, patch: bool = False, scoring: Scoring = Scoring(), **change: Any) -> Row:  # noqa: B008
    """The network with fields `section__field` changed; `patch`: on the smaller patch."""
    fields: Mapping[str, Any] = {"model.aspp": 0, **{key.replace("__", "."): value for key, value in change.items()}}
    config = cityscapes_duc_aspp6_cell2 if patch else cityscapes_duc_bigger_patch
    return Row(name=name, title=title, config=config, change=fields, scoring=scoring)


def _head(head: str, stride: int) -> Row:
    model: dict[str, Any] = {"model__head": head, "model__output_stride": stride}
    model |= {"model__cell": 1 if head == "bilinear" else 2, "model__dilation": "none" if stride == 32 else "dilated"}
    return _row(f"{head}-{stride}", f"{_HEADS[head]}, stride {stride}", **model)


def _pyramid(stride: int) -> Row:
    model: dict[str, Any] = {
        "model__head": "pyramid",
        "model__cell": 1,
        "model__dilation": "none" if stride == 32 else "dilated",
    }
    return _row(f"pyramid-{stride}", f"pyramid of DUCs, stride {stride}", model__output_stride=stride, **model)


_BASE = _row("duc", "DUC, stride 8, cell 2")

QUESTIONS = (
    Table(
        of_paper=False,
        name="heads",
        title="Which head at which stride: does DUC help thin objects, and what does a picture cost?",
        rows=(
            *(_head(head, stride) for stride in (32, 16, 8, 4) for head in _HEADS),
            *(_pyramid(stride) for stride in (32, 16, 8)),
        ),
    ),
    Table(
        of_paper=False,
        name="dilation",
        title="Which dilation rates: does HDC help, and from which crop on?",
        rows=(
            *(_row(name, f"{name}, bigger patch", model__dilation=name) for name in _SCHEDULES),
            *(_row(f"{name}-patch", f"{name}, patch", patch=True, model__dilation=name) for name in _SCHEDULES),
        ),
    ),
    Table(
        of_paper=False,
        name="aspp",
        title="How many paths of ASPP?",
        rows=tuple(_row(f"aspp{paths}", f"{paths} paths", model__aspp=paths) for paths in (0, 4, 6)),
    ),
    Table(
        of_paper=False,
        name="cell",
        title="How large a cell?",
        rows=tuple(
            _row(f"cell{cell}-{stride}", f"cell {cell}, stride {stride}", model__cell=cell, model__output_stride=stride)
            for stride in (8, 16)
            for cell in (1, 2, 4)
        ),
    ),
    Table(
        of_paper=False,
        name="augmentation",
        title="What augmentation brings, one thing left out at a time",
        rows=(
            _row("all", "mirror, scale, colour"),
            _row("no-mirror", "not mirrored", augment__mirror=False),
            _row("no-scale", "not scaled", augment__scale=(1.0, 1.0)),
            _row("no-colour", "colours as they are", augment__colour_jitter=0.0),
            _row(
                "none",
                "random crops alone",
                augment__mirror=False,
                augment__scale=(1.0, 1.0),
                augment__colour_jitter=0.0,
            ),
        ),
    ),
    Table(
        of_paper=False,
        name="testing",
        title="One trained network, looked through in several ways",
        rows=(
            _BASE,
            _row("flip", "mirrored too", scoring=Scoring(flip=True)),
            _row("scales", "scales 0.75, 1, 1.25", scoring=Scoring(scales=(0.75, 1.0, 1.25))),
            _row("scales-flip", "... mirrored too", scoring=Scoring(scales=(0.75, 1.0, 1.25), flip=True)),
            _row("crf", "the paper's CRF", scoring=Scoring(crf="paper")),
        ),
    ),
)
