"""Pictures without ground truth: a benchmark's test set, or any files."""

from collections.abc import Mapping
from pathlib import Path

from ducseg.classes import ClassSet
from ducseg.data.files.reading import read_image
from ducseg.data.sample import Sample

__all__ = ["Unlabelled"]


class Unlabelled:
    """A `SegmentationDataset` of picture files alone; a sample's label is None.

    Args:
        classes: what a prediction of them means.
        files: id -> picture file; samples come in this order.

    Reading a sample raises `UserError` for a file that does not decode.
    """

    def __init__(self, classes: ClassSet, files: Mapping[str, Path]) -> None:
        self.classes = classes
        self.ids = tuple(files)
        self.image_paths = tuple(files.values())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        image = read_image(self.image_paths[index])
        height, width = image.shape[:2]
        return Sample(image=image, label=None, id=self.ids[index], original_size=(height, width))
