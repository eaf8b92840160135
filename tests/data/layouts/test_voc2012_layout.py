"""VOC2012's reader, its augmented sets from SBD, indexed PNGs, and the crops that the paper trains on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import VOC2012, VOC_PALETTE
from ducseg.data.convert.voc_sbd import augmented_sets, read_sbd_mask, write_augmented_sets
from ducseg.data.files.indexed_png import encode_indexed_png, write_indexed_png
from ducseg.data.files.reading import colours_in_use, read_label
from ducseg.data.layouts.voc2012 import Voc2012, find_voc2012, image_set_file, open_voc2012, read_image_set
from ducseg.data.sample import Sample
from ducseg.errors import UserError
from ducseg.models import build
from ducseg.train.config import AugmentConfig
from ducseg.train.setup import training_transform

SIZE = (10, 14)


def _voc(root: Path, **sets: list[str]) -> Path:
    """VOC2012 with these image sets; a mask of class k for the k-th id of train and val."""
    for index, name in enumerate(sorted({name for ids in sets.values() for name in ids})):
        picture = np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg")
    for index, name in enumerate([*sets.get("train", []), *sets.get("val", [])]):
        write_indexed_png(root / "SegmentationClass" / f"{name}.png", _mask(index + 1, border=True))
    for split, ids in sets.items():
        image_set_file(root, split).parent.mkdir(parents=True, exist_ok=True)
        image_set_file(root, split).write_text("\n".join(ids) + "\n")
    return root


def _mask(label: int, *, border: bool = False) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    if border:
        mask[2:8, 3:11] = 255
    mask[3:7, 4:10] = label
    return mask


def _write_mat(path: Path, mask: np.ndarray) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    path.parent.mkdir(parents=True, exist_ok=True)
    present = np.unique(mask[mask > 0])
    boundaries = np.empty((20, 1), dtype=object)
    for index in range(20):
        boundaries[index, 0] = pytest.importorskip("scipy.sparse").csc_matrix(SIZE, dtype=bool)
    content = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}
    scipy_io.savemat(path, {"GTcls": content}, do_compression=True)


def _sbd(root: Path, train: list[str], val: list[str]) -> Path:
    for index, name in enumerate([*train, *val]):
        _write_mat(root / "dataset" / "cls" / f"{name}.mat", _mask(20 - index))
    (root / "dataset" / "train.txt").write_text("\n".join(train))
    (root / "dataset" / "val.txt").write_text("\n".join(val))
    return root


# -- indexed PNGs ------------------------------------------------------------------------------------------------------


def test_the_palette_is_vocs() -> None:
    assert VOC_PALETTE[:21] == VOC2012.palette
    assert (VOC_PALETTE[255], len(VOC_PALETTE)) == ((224, 224, 192), 256)


def test_indexed_pngs_have_the_mode_and_colours_of_real_masks(shared: Path, tmp_path: Path) -> None:
    for file in sorted((shared / "data" / "voc2012" / "masks").glob("*.png")):
        values = np.asarray(Image.open(file))
        write_indexed_png(tmp_path / file.name, values)
        assert colours_in_use(tmp_path / file.name) == colours_in_use(file)
        np.testing.assert_array_equal(read_label(tmp_path / file.name), values)
        assert (tmp_path / file.name).read_bytes()[24:26] == bytes((8, 3))  # 8 bits, palette


def test_all_indices_survive(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "all.png").write_bytes(encode_indexed_png(values))
    np.testing.assert_array_equal(read_label(tmp_path / "all.png"), values)


# -- the reader --------------------------------------------------------------------------------------------------------


def test_reads_an_image_set_in_its_order_with_the_border_ignored(tmp_path: Path) -> None:
    root = _voc(tmp_path / "VOCdevkit" / "VOC2012", train=["2007_b", "2007_a"], val=["2008_c"])
    dataset = Voc2012(tmp_path, "train")
    assert (dataset.ids, dataset.classes, find_voc2012(tmp_path)) == (("2007_b", "2007_a"), VOC2012, root)
    sample = dataset[0]
    np.testing.assert_array_equal(sample.label, _mask(1, border=True))
    np.testing.assert_array_equal(sample.image, np.asarray(Image.open(root / "JPEGImages" / "2007_b.jpg")))
    assert Voc2012(root, "val").ids == ("2008_c",)


def test_the_test_set_has_no_labels(tmp_path: Path) -> None:
    root = _voc(tmp_path, train=["a"], test=["t1", "t2"])
    dataset = open_voc2012(root, "test")
    assert (dataset.ids, dataset[1].label, dataset[1].original_size) == (("t1", "t2"), None, SIZE)
    assert open_voc2012(root, "train")[0].label is not None


def test_missing_pictures_and_masks_in_one_message(tmp_path: Path) -> None:
    root = _voc(tmp_path, train=["a", "b"], val=["c"])
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "SegmentationClass" / "b.png").unlink()
    with pytest.raises(UserError, match=r"1 ids without a picture in JPEGImages \(a\); 1 ids without a mask.* \(b\)"):
        Voc2012(root, "train")


def test_what_is_no_voc2012_says_so(tmp_path: Path) -> None:
    root = _voc(tmp_path / "voc", train=["a"], val=["b"])
    with pytest.raises(UserError, match="no folder JPEGImages"):
        Voc2012(root / "JPEGImages", "train")
    with pytest.raises(UserError, match=r"no image set 'trainval' \(there are: train, val\)"):
        Voc2012(root, "trainval")
    with pytest.raises(UserError, match=r"no list .*train_aug.txt.*ducseg data sbd"):
        Voc2012(root, "train_aug")
    (tmp_path / "VOC.tar").write_bytes(b"tar")
    with pytest.raises(UserError, match=r"the archive VOC.tar itself"):
        Voc2012(tmp_path / "VOC.tar", "train")


@pytest.mark.parametrize(
    ("text", "message"), [("", "no id"), ("a\nb\na\n", "a more than once"), ("a 1\nb -1\n", "the line 'a 1'")]
)
def test_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_image_set(tmp_path / "x.txt")


def test_stray_values_and_other_sizes_name_the_file(tmp_path: Path) -> None:
    root = _voc(tmp_path, train=["a", "b", "c"])
    write_indexed_png(root / "SegmentationClass" / "a.png", _mask(99))
    write_indexed_png(root / "SegmentationClass" / "b.png", _mask(1)[:5])
    Image.open(root / "SegmentationClass" / "c.png").convert("RGB").save(root / "SegmentationClass" / "c.png")
    dataset = Voc2012(root, "train")
    for index, message in enumerate((r"a\.png.*value 99 in 24 pixels", r"b\.png.*5 x 14", r"c\.png.*RGB pixels")):
        with pytest.raises(UserError, match=message):
            dataset[index]


# -- the augmented sets ------------------------------------------------------------------------------------------------


IDS = st.sets(st.integers(0, 40).map(str), max_size=20)


@given(sbd=IDS, train=IDS, val=IDS)
def test_the_rule_of_the_augmented_sets(sbd: set[str], train: set[str], val: set[str]) -> None:
    sets = augmented_sets(sbd=sbd, voc_train=train, voc_val=val)
    for name in map(str, range(41)):
        annotated = name in sbd or name in train
        assert (name in sets.train_aug) == (annotated and name not in val)
        assert (name in sets.trainval_aug) == (annotated or name in val)
    assert list(sets.train_aug) == sorted(set(sets.train_aug))


def test_the_rule_gives_the_published_list_of_10582(shared: Path) -> None:
    """SBD's own lists are not here: lists of its sizes that overlap VOC's as its do must give exactly the published."""
    published = (shared / "data" / "voc2012" / "train_aug.txt").read_text().split()
    assert len(published) == 10_582
    # 11,355 of SBD; of the 1,464 of VOC's train and 1,449 of its val, SBD has as many as the counts leave
    voc_train, rest = published[:1464], published[1464:]
    in_both = 11_355 - len(rest)
    voc_val = [f"val_{index}" for index in range(1449)]
    sbd = [*rest, *(voc_train + voc_val)[:in_both]]
    assert len(set(sbd)) == 11_355
    sets = augmented_sets(sbd=sbd, voc_train=voc_train, voc_val=voc_val)
    assert set(sets.train_aug) == set(published)
    assert (len(sets.train_aug), len(sets.trainval_aug)) == (10_582, 12_031)


@pytest.mark.parametrize("workers", [1, 2])
def test_sbd_becomes_masks_and_lists_and_vocs_masks_win(tmp_path: Path, workers: int) -> None:
    root = _voc(tmp_path / "voc", train=["a", "b"], val=["c"], test=["d", "e"])
    sbd = _sbd(tmp_path / "sbd", train=["b", "d"], val=["c", "e"])
    seen: list[tuple[int, int]] = []
    write_augmented_sets(root, sbd, num_workers=workers, progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]  # d and e: a, b and c have VOC's masks
    assert sorted(file.name for file in (root / "SegmentationClassAug").iterdir()) == ["d.png", "e.png"]
    assert not list(root.glob(".*"))
    dataset = Voc2012(root, "train_aug")
    assert dataset.ids == ("a", "b", "d", "e")
    np.testing.assert_array_equal(dataset[1].label, _mask(2, border=True))  # VOC's, though SBD has b too
    np.testing.assert_array_equal(dataset[2].label, _mask(19))
    np.testing.assert_array_equal(dataset[3].label, _mask(17))
    assert Voc2012(root, "trainval_aug").ids == ("a", "b", "c", "d", "e")


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    root = _voc(tmp_path / "voc", train=["a"], val=["c"], test=["d"])
    sbd = _sbd(tmp_path / "sbd", train=["d"], val=["a"])
    image_set_file(root, "train_aug").write_text("d\na\n")  # the same ids in another order may stay
    write_augmented_sets(root, sbd)
    before = (root / "SegmentationClassAug" / "d.png").read_bytes()
    with pytest.raises(UserError, match="SegmentationClassAug already"):
        write_augmented_sets(root, sbd)
    assert (root / "SegmentationClassAug" / "d.png").read_bytes() == before
    (root / "SegmentationClassAug").rename(root / "away")
    image_set_file(root, "train_aug").write_text("a\n")
    with pytest.raises(UserError, match=r"train_aug.txt already, made otherwise"):
        write_augmented_sets(root, sbd)


def test_missing_and_damaged_sbd_masks(tmp_path: Path) -> None:
    root = _voc(tmp_path / "voc", train=["a"], val=["c"], test=["d", "e"])
    sbd = _sbd(tmp_path / "sbd", train=["d"], val=["e"])
    whole = (sbd / "dataset" / "cls" / "d.mat").read_bytes()
    (sbd / "dataset" / "cls" / "d.mat").unlink()
    with pytest.raises(UserError, match=r"1 ids without a mask.*: d;"):
        write_augmented_sets(root, sbd)
    (sbd / "dataset" / "cls" / "d.mat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"SBD mask .*d\.mat: found damaged"):
        write_augmented_sets(root, sbd)
    assert not (root / "SegmentationClassAug").exists()
    (sbd / "dataset" / "cls" / "d.mat").write_bytes(whole)
    write_augmented_sets(root, sbd)  # what the failed run left is taken up
    with pytest.raises(UserError, match="no folder cls"):
        write_augmented_sets(root, root)


def _no_struct(path: Path) -> None:
    pytest.importorskip("scipy.io").savemat(path, {"GTinst": {"Segmentation": _mask(1)}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: _write_mat(path, _mask(1).astype(np.float64)), "of type float64"),
        (lambda path: _write_mat(path, _mask(77)), "value 77 in 24 pixels"),
        (_no_struct, "KeyError"),
        (lambda path: path.write_bytes(b"not a mat file" * 20), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
    ],
)
def test_files_that_are_no_sbd_masks(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    pytest.importorskip("scipy.io")
    make(tmp_path / "x.mat")
    with pytest.raises(UserError, match=message):
        read_sbd_mask(tmp_path / "x.mat")


# -- crops -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 1.5)])
def test_512_crops_are_padded_with_what_normalises_to_zero_and_255(scale: tuple[float, float]) -> None:
    """Section 4.3's zero-padded 512x512 is --augment.crop-size 512 512: the mean colour, which is 0 to the network."""
    network = build(encoder="resnet18", num_classes=21, classes=VOC2012, width=8, aspp=0)
    transform = training_transform(AugmentConfig(crop_size=(512, 512), scale=scale), network)
    sample = Sample(
        image=np.full((200, 300, 3), 7, np.uint8),
        label=np.ones((200, 300), np.uint8),
        id="x",
        original_size=(200, 300),
    )
    crop = transform(sample, np.random.default_rng(0))
    assert crop.label is not None
    assert (crop.image.shape, crop.label.shape) == ((512, 512, 3), (512, 512))
    inside = crop.label == 1
    if scale == (1.0, 1.0):
        assert inside.sum() == 200 * 300
    assert 0 < inside.sum() < 512 * 512
    assert (crop.label[~inside] == 255).all()
    assert (crop.image[inside] == 7).all()
    padding = network.preprocessing.normalise(torch.from_numpy(crop.image).permute(2, 0, 1)[None])[0][:, ~inside]
    assert padding.abs().max() < 0.01  # half a grey level, in standard deviations
