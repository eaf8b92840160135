"""What one file of this folder says about one data set: its files for a split, its label rules, its classes.

Training, `eval`, the doctor and `data patches` all read a `Layout`, and know no data set of their own. A layout lists
and reads no picture: what is missing or empty stops `Layout.open`, while the doctor reports all of it at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet, Colour
from ducseg.data.files.channels import RGB, Pixels
from ducseg.data.files.reading import read_label
from ducseg.data.paired import SegmentationDataset, match_pairs, no_such_data
from ducseg.errors import UserError

__all__ = ["FoundFiles", "LabelRules", "Layout", "SplitFiles"]


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of a split by id.

    Attributes:
        labels: None where the split has none (a test set).
        places: where images and labels are looked for, relative to the root, as messages say it.
        twins: what is to be said of files left out because another one has their name.
    """

    name: str
    images: Mapping[str, Path]
    labels: Mapping[str, Path] | None
    places: tuple[str, str] = ("images", "labels")
    twins: tuple[UserError, ...] = ()

    def pairs(self, name: str, root: Path, way_out: str = "") -> dict[str, tuple[Path, Path]]:
        """Id -> (image, label) of the labelled split of the data set `name` in `root`; `way_out` as `match_pairs`.

        Raises:
            UserError: no images or no labels, two of one name; images or labels without a partner (all in one message).
        """
        assert self.labels is not None
        if self.twins:
            raise self.twins[0]
        for found, place in zip((self.images, self.labels), self.places):
            if not found:
                raise no_such_data(name, root, missing=f"no {place}", layout=" and ".join(self.places))
        return match_pairs(self.images, self.labels, f"{root} ({self.name})", way_out)


@dataclass(frozen=True)
class FoundFiles:
    """What was found by looking.

    Attributes:
        splits: the files of each split; one that is called "" where there are none.
        line: how they lie, for printing.
        labels: nnU-Net's dataset.json, which names the masks' values; None: there is none.
    """

    splits: Mapping[str, SplitFiles]
    line: str
    labels: Path | None = None


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """What label files hold.

    Attributes:
        classes: of the train ids.
        read: label file -> values (H, W); raises `UserError` for a file that it does not take.
        num_values: values are 0..num_values-1 or 255; None: as many as there are classes.
        train_ids: (256,) value -> train id or 255; None: values are train ids.
        mistaken: label file and its (256,) pixels of each value -> why they are another encoding that is mistaken for
            this one; None: they are not, or there is none.
        are_colours: files are colour pictures.
        palette: that the files must carry; None: any, or none.
        notes: the rule in words, where it was found by looking, for printing.
        problem: why nothing can be trained on these labels, found by looking.
    """

    classes: ClassSet
    read: Callable[[Path], NDArray[np.uint8]] = read_label
    num_values: int | None = None
    train_ids: NDArray[np.uint8] | None = None
    mistaken: Callable[[Path, NDArray[np.int64]], UserError | None] | None = None
    are_colours: bool = False
    palette: tuple[Colour, ...] | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A data set as it lies on the disk.

    Attributes:
        name: as messages call it.
        root: the folder that holds it.
        needed: what must lie there, as messages say it.
        splits: that are there, in whole or in part, such that no picture belongs to two of them.
        are_splits: False: they are folders of other meaning (sites, cameras), and training takes the pictures of all.
        open: name of any split -> its pictures, with label None where it has no labels; raises `UserError` for no such
            split, nothing in it, files without a partner.
        files: one of `splits` -> its files, whatever is missing.
        make_rules: of the labels; called once, when a label is wanted.
        sequence: id -> the drive (patient, video) that it is from, which no two splits may share; None: they may.
        notes: what was found by looking, a line each, for printing.
        make_pixels: what the images hold; called once, when one is wanted.
    """

    name: str
    root: Path
    needed: str
    splits: tuple[str, ...]
    open: Callable[[str], SegmentationDataset]
    files: Callable[[str], SplitFiles]
    make_rules: Callable[[], LabelRules]
    sequence: Callable[[str], str] | None = None
    notes: tuple[str, ...] = ()
    make_pixels: Callable[[], Pixels] = lambda: RGB
    are_splits: bool = True

    @property
    def folders(self) -> dict[str, SplitFiles]:
        """The files of each of `splits` by folder, as `splitting` parts them: "" where they are not sorted into any."""
        return {"" if self.splits == ("all",) else split: self.files(split) for split in self.splits}

    @cached_property
    def pixels(self) -> Pixels:
        """What the images hold."""
        return self.make_pixels()

    @property
    def lines(self) -> tuple[str, ...]:
        """All that was found by looking, a line each."""
        own = () if self.pixels == RGB else (f"pictures hold {self.pixels}, and are read as stored",)
        return (*self.notes, *own, *self.rules.notes)

    @cached_property
    def rules(self) -> LabelRules:
        """What label files hold."""
        return self.make_rules()
