"""Data sets laid out as images/SPLIT/NAME.jpg and labels/SPLIT/NAME.png: CamVid, and any other with its classes."""

from pathlib import Path

from ducseg.classes import CAMVID, ClassSet
from ducseg.data.paired import PairedFiles, match_pairs, no_such_data, pictures_in, table

__all__ = ["CamVid", "SplitFolders"]

_LAYOUT = "images/{split}/*.jpg (or .png) and labels/{split}/*.png with the same names"


class SplitFolders(PairedFiles):
    """Pictures in images/SPLIT, index masks of the same name in labels/SPLIT holding train ids and 255.

    Args:
        root: the folder that holds images/ and labels/.
        split: name of a folder in both: "train", "val", "test".
        classes: the classes of the train ids.
        void_value: another label value that is ignored, besides 255; None: there is none.

    Raises:
        UserError: no such folders, no pictures, pictures or labels without a partner.
    """

    def __init__(self, root: Path | str, split: str, classes: ClassSet, *, void_value: int | None = None) -> None:
        root = Path(root)
        folders = root / "images" / split, root / "labels" / split
        for folder in folders:
            if not folder.is_dir() or not pictures_in(folder):
                missing = f"no pictures in {folder.relative_to(root)}"
                raise no_such_data("data", root, missing=missing, layout=_LAYOUT.format(split=split))
        images, labels = (pictures_in(folder) for folder in folders)
        values = None
        if void_value is not None:
            values = table({train_id: train_id for train_id in range(len(classes))})
        super().__init__(
            classes,
            match_pairs(images, labels, f"{root} ({split})"),
            train_ids=values,
            num_values=None if void_value is None else void_value + 1,
        )


class CamVid(SplitFolders):
    """CamVid with the 11 classes of the SegNet protocol; label value 11 is void.

    Raises:
        UserError: as `SplitFolders`.
    """

    def __init__(self, root: Path | str, split: str) -> None:
        super().__init__(root, split, CAMVID, void_value=len(CAMVID))
