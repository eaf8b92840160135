"""One budget, one table: the systems of tables 4 and 6 beside the baseline, DUC, HDC and the pyramid."""

from dataclasses import replace

from ducseg.experiments.ablations.paper import PAPER_TABLES
from ducseg.experiments.ablations.questions import QUESTIONS
from ducseg.experiments.ablations.rows import Row, Scoring, Table, changed
from ducseg.experiments.cityscapes import cityscapes_duc_bigger_patch
from ducseg.train.config import Config

__all__ = ["BESIDE"]

_ROWS = {(table.name, row.name): row for table in (*PAPER_TABLES, *QUESTIONS) for row in table.rows}
_TAKEN = {
    ("table4", "fcn8s"): "FCN-8s",
    ("table4", "dilation10"): "Dilation10",
    ("table4", "deeplabv2-crf"): "DeepLabv2",
    ("table4", "adelaide"): "Adelaide context",
    ("table4", "lrr-4x"): "LRR-4x",
    ("table6", "gcrf"): "Deep G-CRF",
    ("table4", "hdc"): "ResNet-DUC-HDC",
    ("heads", "duc-8"): "DUC, stride 8",
    ("heads", "pyramid-32"): "pyramid of DUCs",
    ("heads", "bilinear-8"): "bilinear, stride 8",
}


def _on_vgg() -> Config:
    return changed(cityscapes_duc_bigger_patch(), {"model.encoder": "vgg16"})


_BASELINE = _ROWS["heads", "bilinear-8"]

BESIDE = Table(
    of_paper=False,
    name="comparisons",
    title="The systems that the paper compares with beside ours: one budget, one scale, no dense CRF",
    rows=(
        *(
            replace(_ROWS[key], name=key[1].removesuffix("-crf"), title=title, scoring=Scoring(), paper=None)
            for key, title in _TAKEN.items()
        ),
        Row(name="bilinear-8-vgg", title="... on VGG-16", config=_on_vgg, change=_BASELINE.change),
    ),
)
