"""Cityscapes, fine annotations, as its zip files unpack: leftImg8bit/SPLIT/CITY and gtFine/SPLIT/CITY.

The label table is that of cityscapesScripts (helpers/labels.py): label ids 0..33 in the files, 19 of them train.
"""

from pathlib import Path

from ducseg.classes import CITYSCAPES
from ducseg.data.paired import PairedFiles, match_pairs, no_such_data, table

__all__ = ["LABEL_ID_TO_TRAIN_ID", "NUM_LABEL_IDS", "Cityscapes"]

NUM_LABEL_IDS = 34
"""Label ids 0..33 stand in labelIds files (license plate, -1, does not)."""

LABEL_ID_TO_TRAIN_ID = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15,
    31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""Label id -> train id (the order of `CITYSCAPES`); all other label ids are ignored."""

_IMAGE_END = "_leftImg8bit.png"
_LABEL_END = "_gtFine_labelIds.png"
_LAYOUT = f"leftImg8bit/{{split}}/CITY/*{_IMAGE_END} and gtFine/{{split}}/CITY/*{_LABEL_END}"


class Cityscapes(PairedFiles):
    """Whole frames with the 19 classes; ids are CITY_SEQUENCE_FRAME.

    Args:
        root: the folder that holds leftImg8bit/ and gtFine/.
        split: "train", "val" or "test" (whose public labels are all ignored).

    Raises:
        UserError: no such folders, no frames, frames or labels without a partner.
    """

    def __init__(self, root: Path | str, split: str) -> None:
        root = Path(root)
        images = _frames(root, f"leftImg8bit/{split}", _IMAGE_END, split)
        labels = _frames(root, f"gtFine/{split}", _LABEL_END, split)
        super().__init__(
            CITYSCAPES,
            match_pairs(images, labels, f"{root} ({split})"),
            train_ids=table(LABEL_ID_TO_TRAIN_ID),
            num_values=NUM_LABEL_IDS,
        )


def _frames(root: Path, folder: str, end: str, split: str) -> dict[str, Path]:
    found = {file.name.removesuffix(end): file for file in sorted((root / folder).glob(f"*/*{end}"))}
    if not found:
        raise no_such_data("Cityscapes", root, missing=f"no {folder}/CITY/*{end}", layout=_LAYOUT.format(split=split))
    return found
