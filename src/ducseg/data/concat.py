"""Several data sets as one: fine and coarse Cityscapes frames, VOC and COCO pictures."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from ducseg.data.paired import SegmentationDataset
from ducseg.data.sample import Sample
from ducseg.errors import explain

__all__ = ["Concatenated"]


class Concatenated:
    """A `SegmentationDataset` over the samples of several with the same classes, one after the other.

    An epoch shows every sample once, so 2,975 fine and 19,998 coarse frames mix in these proportions.

    Raises:
        UserError: classes that differ, an id in more than one of them.
    """

    def __init__(self, datasets: Sequence[SegmentationDataset]) -> None:
        assert datasets
        self.classes = datasets[0].classes
        for dataset in datasets[1:]:
            if dataset.classes != self.classes:
                raise explain(
                    "data sets to join",
                    found=f"classes {', '.join(self.classes.names)} and {', '.join(dataset.classes.names)}",
                    needed="the same names and colours in the same order",
                    fix="Map the labels of one to the classes of the other first.",
                )
        self.ids = tuple(name for dataset in datasets for name in dataset.ids)
        twice = sorted(name for name, count in Counter(self.ids).items() if count > 1)
        if twice:
            raise explain(
                "data sets to join",
                found=f"{len(twice)} samples in more than one ({', '.join(twice[:5])})",
                needed="each once",
                fix="Join splits that share no picture.",
            )
        self.datasets = tuple(datasets)
        self._ends = list(accumulate(len(dataset) for dataset in datasets))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int, /) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, index)
        return self.datasets[part][index - (self._ends[part - 1] if part else 0)]
