"""Which data set a checkpoint was trained on, as training recorded it."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ducseg.classes import ClassSet
from ducseg.data.config import DataConfig
from ducseg.data.files.channels import read_pixels
from ducseg.data.layouts.opening import open_dataset, open_training_set, pictures_of
from ducseg.data.layouts.splitting import NoSplit
from ducseg.data.paired import PairedFiles, SegmentationDataset
from ducseg.errors import UserError, explain
from ducseg.inference.opening import data_of, recorded
from ducseg.inference.taken import pixels_taken
from ducseg.models.preprocessing import Preprocessing

__all__ = ["learned_notes", "open_trained_on", "trained_on"]


def open_trained_on(
    checkpoint: str | Path,
    *,
    split: str | None = None,
    root: Path | None = None,
    images: str | None = None,
    masks: str | None = None,
) -> tuple[SegmentationDataset, str]:
    """The data set that a checkpoint was trained on, and the name of its split.

    Where its list of classes has moved, the checkpoint's own takes its place.

    Args:
        split: None: the one the run validated on.
        root: where it lies now; None: where it lay in training.
        images, masks: its folders there, for data sets that have such fields; None: as in training.

    Raises:
        UserError: as `trained_on`; the folder does not hold the data set, or pictures that the network does not take.
    """
    data = trained_on(checkpoint, root=root)
    data = replace(data, images=images or data.images, masks=masks or data.masks)
    chosen = split or data.val_split
    description = recorded(checkpoint)[1]
    own = ClassSet.from_json(description["classes"])
    try:
        dataset = open_dataset(data, chosen, own)
        taken = pixels_taken(Preprocessing.from_json(description["preprocessing"]))
        if isinstance(dataset, PairedFiles) and len(dataset) and taken != dataset.pixels:
            read_pixels(dataset.image_paths[0], taken)  # raises, as where such a picture is predicted
        return dataset, chosen
    except UserError as error:
        if isinstance(error, NoSplit) and chosen != data.val_split:
            raise _no_split(data, chosen, error) from error
        raise UserError(f"{error} (--data-root: where the data set lies now, here {data.root})") from error


def learned_notes(
    checkpoints: Sequence[str | Path],
    dataset: SegmentationDataset,
    *,
    beside: str | Path,
    root: Path | None = None,
    images: str | None = None,
    masks: str | None = None,
) -> list[str]:
    """What is to be said, a line each, of networks that were trained on pictures of a data set, such as other folds'.

    Args:
        beside: the checkpoint whose data set it is: it lies where others' is looked for whose own place is not there.
        root, images, masks: as `open_trained_on`.
    """
    notes, scored = [], {picture.resolve() for picture in pictures_of(dataset)}
    for checkpoint in checkpoints:
        try:
            try:
                data = trained_on(checkpoint, root=root)
            except UserError:
                data = trained_on(checkpoint, root=Path(trained_on(beside, root=root).root or "."))
            data = replace(data, images=images or data.images, masks=masks or data.masks)
            train_set = open_training_set(data, (0, 0, 0))
        except UserError:
            notes.append(f"what {checkpoint} was trained on is not known: if on these pictures, the score is too good")
            continue
        learned = scored & {picture.resolve() for picture in pictures_of(train_set)}
        if learned:
            notes.append(
                f"{checkpoint} was trained on {len(learned)} of the {len(scored)} pictures scored: too good a score"
            )
    return notes


def _no_split(data: DataConfig, split: str, error: NoSplit) -> UserError:
    """The same error with advice for one who has a network, and cannot say any more how its pictures are split."""
    anew = "--data.test-fraction 0.2, which holds pictures out for testing" if "test" in split else "such a split"
    return explain(
        f"--split {split}",
        found=error.found,
        needed="a split of the data set that the network was trained on",
        fix=f"Take --split {data.val_split}, on which the run validated, or train anew with {anew}.",
    )


def trained_on(checkpoint: str | Path, *, root: Path | None = None) -> DataConfig:
    """The data configuration that training recorded in a checkpoint's `model.json`.

    Args:
        root: as `open_trained_on`.

    Raises:
        UserError: the checkpoint was not written by training, or by another version; no folder at the root.
    """
    place, description = recorded(checkpoint)
    noted = data_of(description)
    if not noted:
        raise explain(
            f"checkpoint {place}",
            found="no data set recorded in it",
            needed="a checkpoint that `ducseg train` wrote",
            fix="Score its predictions with the library: ducseg.inference.evaluate.evaluate(predictor, dataset).",
        )
    known = {field.name for field in fields(DataConfig)}
    if strange := sorted(noted.keys() - known):
        raise explain(
            f"checkpoint {place}",
            found=f"data options of another version: {', '.join(strange)}",
            needed=f"some of {', '.join(sorted(known))}",
            fix="Update ducseg.",
        )
    data = DataConfig(**{key: _tuples(value) for key, value in noted.items()})
    return data if data.dataset == "synthetic" else _at(data, root)


def _at(data: DataConfig, root: Path | None) -> DataConfig:
    """The same data at another place; the place must be there."""
    place = root if root is not None else None if data.root is None else Path(data.root)
    if place is None or not place.expanduser().exists():
        by = "" if root is not None else ", where it lay in training"
        relative = "" if place is None or place.is_absolute() else f", which is {place.absolute()} from here"
        raise explain(
            "--data-root",
            found="none recorded" if place is None else f"no folder {place}{by}{relative}",
            needed=f"the folder of the data set ({data.dataset})",
            fix="Give the place where it lies now.",
        )
    return replace(data, root=str(place))


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that a configuration holds."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
