"""Synthetic VOC2012: the layout, the same bytes for the same seed, read through the real reader."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ducseg.classes import VOC2012
from ducseg.data.files.reading import colours_in_use
from ducseg.data.layouts.voc2012 import Voc2012, open_voc2012
from ducseg.data.synthetic.voc2012 import render_picture, write_voc2012
from ducseg.errors import UserError


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voc") / "VOC2012"
    write_voc2012(root, num_train=20, num_val=3, num_test=2, height=48, width=64)
    return root


def test_the_layout_and_the_image_sets(written: Path) -> None:
    train, val = Voc2012(written, "train"), Voc2012(written, "val")
    assert (len(train), len(val), train.ids[0], val.ids[-1]) == (20, 3, "2007_000000", "2008_000002")
    assert Voc2012(written, "trainval").ids == (*train.ids, *val.ids)
    assert len(list((written / "SegmentationClass").iterdir())) == 23
    test = open_voc2012(written, "test")
    assert (len(test), test[0].label, test[0].image.shape) == (2, None, (48, 64, 3))


def test_masks_have_every_class_a_border_and_vocs_palette(written: Path) -> None:
    dataset, seen, pixels = Voc2012(written, "train"), np.zeros(256, np.int64), 0
    for index in range(20):
        label = dataset[index].label
        assert label is not None
        counts = np.bincount(label.ravel(), minlength=256)
        assert counts[1 + index] > 0  # each picture has the class of its turn
        assert counts[255] > 0
        seen, pixels = seen + counts, pixels + label.size
    assert (seen[:21] > 0).all()
    assert seen[0] > pixels // 2
    mode, colours = colours_in_use(dataset.label_paths[0])
    assert (mode, colours[1], colours[255]) == ("P", VOC2012.palette[1], (224, 224, 192))


def test_sizes_vary(written: Path) -> None:
    sizes = {Voc2012(written, "train")[index].original_size for index in range(15)}
    assert sizes == {(48, 64), (64, 48), (42, 64), (64, 42)}


def test_objects_touch_the_border_only_through_255() -> None:
    for seed in range(5):
        _, mask = render_picture(120, 160, np.random.default_rng(seed))
        for here, there in ((mask[:, 1:], mask[:, :-1]), (mask[1:], mask[:-1])):
            both = (here != 255) & (there != 255)
            assert (here[both] == there[both]).all()


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, seed, workers in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        write_voc2012(tmp_path / name, num_train=5, num_val=1, height=40, width=40, seed=seed, num_workers=workers)
    one, two, other = (_bytes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert one != other


def test_pictures_look_like_their_masks(written: Path) -> None:
    """Within one object colours are alike, beside the ground they are not: something can be learned."""
    dataset = Voc2012(written, "train")
    sample = dataset[0]
    assert sample.label is not None
    mean = [sample.image[sample.label == value].mean(0) for value in (0, 1)]
    assert np.abs(mean[0] - mean[1]).max() > 30
    assert np.asarray(Image.open(dataset.image_paths[0])).shape == (48, 64, 3)


def test_bad_numbers_and_folders_that_are_there(tmp_path: Path, written: Path) -> None:
    with pytest.raises(UserError, match="31x64 pixels; needed at least 32x32"):
        write_voc2012(tmp_path / "a", num_train=1, num_val=0, height=31, width=64)
    with pytest.raises(UserError, match="number of pictures: found 0 and 0 and 0"):
        write_voc2012(tmp_path / "a", num_train=0, num_val=0)
    with pytest.raises(UserError, match="seed: found -1"):
        write_voc2012(tmp_path / "a", num_train=1, num_val=0, seed=-1)
    with pytest.raises(UserError, match="workers: found 0"):
        write_voc2012(tmp_path / "a", num_train=1, num_val=0, num_workers=0)
    with pytest.raises(UserError, match="JPEGImages/ and SegmentationClass/ and ImageSets/ in it"):
        write_voc2012(written, num_train=1, num_val=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="found a file"):
        write_voc2012(tmp_path / "file", num_train=1, num_val=0)
