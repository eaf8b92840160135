"""Cityscapes' label table, coarse annotations, and fine and coarse frames as one data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ducseg.classes import CITYSCAPES
from ducseg.data.concat import Concatenated
from ducseg.data.config import DataConfig
from ducseg.data.layouts.cityscapes import LABELS, Cityscapes
from ducseg.data.layouts.opening import open_dataset
from ducseg.data.loading import training_loader
from ducseg.data.transforms import RandomCrop
from ducseg.errors import UserError


def _frame(root: Path, split: str, name: str, truth: str, value: int) -> None:
    city = name.split("_")[0]
    for folder, end, pixels in (
        ("leftImg8bit", "leftImg8bit", np.full((6, 8, 3), value, np.uint8)),
        (truth, f"{truth}_labelIds", np.full((6, 8), value, np.uint8)),
    ):
        path = root / folder / split / city / f"{name}_{end}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _frame(tmp_path, "train", "aachen_000000_000019", "gtFine", 7)
    _frame(tmp_path, "train", "aachen_000000_000019", "gtCoarse", 8)
    _frame(tmp_path, "train_extra", "augsburg_000000_000019", "gtCoarse", 26)
    _frame(tmp_path, "train_extra", "troisdorf_000000_000072", "gtCoarse", 9)
    return tmp_path


def test_the_table_is_that_of_cityscapes_scripts() -> None:
    """Against the package itself where it is installed."""
    theirs = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    rows = {(row.name, row.id, row.trainId, row.category, row.hasInstances, row.color) for row in theirs if row.id >= 0}
    assert {tuple(label) for label in LABELS} == rows


def test_ids_are_places_in_the_table_and_classes_follow_it() -> None:
    assert [label.id for label in LABELS] == list(range(34))
    trained = {label.train_id: label for label in LABELS if label.train_id != 255}
    assert tuple(trained[train_id].name for train_id in range(19)) == CITYSCAPES.names
    assert tuple(trained[train_id].colour for train_id in range(19)) == CITYSCAPES.palette


def test_train_extra_is_coarse_and_train_both(root: Path) -> None:
    extra = Cityscapes(root, "train_extra")
    assert extra.ids == ("augsburg_000000_000019", "troisdorf_000000_000072")
    assert [np.unique(extra[index].label).tolist() for index in range(2)] == [[13], [255]]  # car; parking is ignored
    assert np.unique(Cityscapes(root, "train")[0].label).tolist() == [0]
    assert np.unique(Cityscapes(root, "train", "coarse")[0].label).tolist() == [1]


def test_missing_coarse_labels_are_named(root: Path) -> None:
    with pytest.raises(UserError, match=r"no gtFine/train_extra/CITY/\*_gtFine_labelIds\.png"):
        Cityscapes(root, "train_extra", "fine")
    (root / "gtCoarse/train_extra/troisdorf/troisdorf_000000_000072_gtCoarse_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"1 without a label \(troisdorf_000000_000072\)"):
        Cityscapes(root, "train_extra")


def test_fine_and_coarse_mix(root: Path) -> None:
    mixed = Concatenated([Cityscapes(root, "train"), Cityscapes(root, "train_extra")])
    assert mixed.ids == ("aachen_000000_000019", "augsburg_000000_000019", "troisdorf_000000_000072")
    assert [mixed[index].id for index in range(3)] == list(mixed.ids)
    assert [int(mixed[index].image[0, 0, 0]) for index in range(3)] == [8, 26, 9]
    assert mixed[1].size == (6, 8)
    with pytest.raises(IndexError):
        mixed[3]
    batches = list(training_loader(mixed, RandomCrop((4, 4)), batch_size=3, num_steps=2, seed=0, num_workers=0))
    assert [sorted(batch["ids"]) for batch in batches] == [sorted(mixed.ids)] * 2


def test_only_disjoint_sets_of_the_same_classes_join(root: Path, tmp_path: Path) -> None:
    fine = Cityscapes(root, "train")
    with pytest.raises(UserError, match="1 samples in more than one \\(aachen_000000_000019\\)"):
        Concatenated([fine, Cityscapes(root, "train", "coarse")])
    for folder in ("images", "labels"):
        (tmp_path / folder / "train").mkdir(parents=True)
        Image.new("L", (8, 6)).save(tmp_path / folder / "train" / "a.png")
    with pytest.raises(UserError, match=r"found classes road, .* and sky, "):
        Concatenated(
            [fine, open_dataset(DataConfig(dataset="split-folders", root=str(tmp_path), classes="camvid"), "train")]
        )
