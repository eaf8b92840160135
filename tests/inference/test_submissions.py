"""Submissions for Cityscapes and VOC2012: the names, ids and archives of the servers, and the score that eval gives."""

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ducseg.classes import CITYSCAPES, VOC2012, VOC_PALETTE, ClassSet
from ducseg.data.files.reading import colours_in_use, read_label
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID, Cityscapes
from ducseg.data.layouts.voc2012 import Voc2012, open_voc2012
from ducseg.data.paired import SegmentationDataset, Unlabelled
from ducseg.data.sample import Sample
from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.data.synthetic.voc2012 import write_voc2012
from ducseg.errors import UserError
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import Predictor
from ducseg.inference.submit import VOC_FOLDER, write_cityscapes_submission, write_voc_submission
from ducseg.metrics.cityscapes import score_cityscapes
from ducseg.metrics.confusion import scores
from ducseg.metrics.voc2012 import score_voc2012
from ducseg.models import build


def _predictor(classes: ClassSet, *, seed: int = 0) -> Predictor:
    torch.manual_seed(seed)
    network = build(encoder="resnet18", num_classes=len(classes), classes=classes, width=8, aspp=0)
    with torch.no_grad():  # a fresh head says one class everywhere: spread it
        for parameter in network.head.parameters():
            torch.nn.init.normal_(parameter, std=1.0)
    return Predictor(network)


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    write_cityscapes(root, num_train=0, num_val=3, height=64, width=128)
    return root


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("objects")
    write_voc2012(root, num_train=0, num_val=5, num_test=2, height=40, width=56)
    return root


def _evaluated(predictor: Predictor, dataset: SegmentationDataset) -> dict[str, Any]:
    return scores(evaluate(predictor, dataset).matrix, dataset.classes)


def _shared_part(found: dict[str, Any]) -> tuple[Any, ...]:
    ious = {name: (score["iou"], score["pixels"]) for name, score in found["classes"].items() if score["iou"] >= 0}
    return found["mean_iou"], found["pixel_accuracy"], found["num_pixels"], found["absent"], ious


# -- Cityscapes --------------------------------------------------------------------------------------------------------


def test_a_cityscapes_submission_scores_exactly_what_eval_gives(streets: Path, tmp_path: Path) -> None:
    predictor, dataset = _predictor(CITYSCAPES), Cityscapes(streets, "val")
    files = write_cityscapes_submission(predictor, dataset, tmp_path / "out")
    found = score_cityscapes(tmp_path / "out", streets / "gtFine" / "val")
    assert _shared_part(found) == _shared_part(_evaluated(predictor, dataset))
    assert found["ids"] == "label"
    assert 0 < found["mean_iou"] < 0.5
    assert [file.name for file in files] == [f"{name}_labelIds.png" for name in dataset.ids]


def test_cityscapes_files_are_8_bit_grey_label_ids(streets: Path, tmp_path: Path) -> None:
    predictor, dataset = _predictor(CITYSCAPES), Cityscapes(streets, "val")
    (file, *_) = write_cityscapes_submission(predictor, dataset, tmp_path)
    picture = Image.open(file)
    assert (picture.mode, picture.size, file.read_bytes()[24:26]) == ("L", (128, 64), bytes((8, 0)))
    train_ids = predictor(dataset[0].image)
    to_label_id = {train_id: label_id for label_id, train_id in LABEL_ID_TO_TRAIN_ID.items()}
    expected = np.vectorize(to_label_id.__getitem__)(train_ids)
    np.testing.assert_array_equal(np.asarray(picture), expected)
    assert len(np.unique(expected)) > 2


class _Constant:
    """Says the same class everywhere."""

    def __init__(self, classes: ClassSet) -> None:
        self.classes = classes

    def __call__(self, image: Any, /) -> Any:
        return np.full(image.shape[:2], 18, np.uint8)

    def probabilities(self, image: Any, /) -> Any:
        raise AssertionError("not asked for")


class _Frames:
    """Grey frames without labels, of a size, named."""

    def __init__(self, names: tuple[str, ...], size: tuple[int, int] = (1024, 2048)) -> None:
        self.classes, self.ids, self._size = CITYSCAPES, names, size

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        image = np.zeros((*self._size, 3), np.uint8)
        return Sample(image=image, label=None, id=self.ids[index], original_size=self._size)


def test_the_zip_for_the_server_holds_exactly_the_files(tmp_path: Path) -> None:
    frames = _Frames(("berlin_000000_000019", "bad-honnef_000001_000019"))
    archive = tmp_path / "for the server" / "results.zip"
    write_cityscapes_submission(_Constant(CITYSCAPES), frames, tmp_path / "out", archive=archive)
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == ["berlin_000000_000019_labelIds.png", "bad-honnef_000001_000019_labelIds.png"]
        content.extractall(tmp_path / "unpacked")
    labels = read_label(tmp_path / "unpacked" / "berlin_000000_000019_labelIds.png")
    assert (labels.shape, np.unique(labels).tolist()) == ((1024, 2048), [33])
    before = archive.read_bytes()
    write_cityscapes_submission(_Constant(CITYSCAPES), frames, tmp_path / "out", archive=archive)  # again: the same
    assert archive.read_bytes() == before


def test_the_server_takes_one_size_alone(tmp_path: Path) -> None:
    frames = _Frames(("a_000000_000019",), size=(512, 1024))
    with pytest.raises(UserError, match=r"512 x 1024 pixels .*needed 1024 x 2048"):
        write_cityscapes_submission(_Constant(CITYSCAPES), frames, tmp_path / "out", archive=tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()
    write_cityscapes_submission(_Constant(CITYSCAPES), frames, tmp_path / "out")


def test_frames_with_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 with other names \(IMG_1\)"):
        write_cityscapes_submission(_Constant(CITYSCAPES), _Frames(("a_0_1", "IMG_1")), tmp_path)


# -- VOC2012 -----------------------------------------------------------------------------------------------------------


def test_a_voc_submission_scores_exactly_what_eval_gives(objects: Path, tmp_path: Path) -> None:
    predictor, dataset = _predictor(VOC2012), Voc2012(objects, "val")
    files = write_voc_submission(predictor, dataset, tmp_path / "out", archive=tmp_path / "results.tgz")
    found = score_voc2012(tmp_path / "out", objects, image_set="val")
    assert _shared_part(found) == _shared_part(_evaluated(predictor, dataset))
    assert 0 < found["mean_iou"] < 0.5
    for file, index in zip(files, range(5)):
        np.testing.assert_array_equal(read_label(file), predictor(dataset[index].image))
        mode, colours = colours_in_use(file)
        assert mode == "P"
        assert len(colours) > 2
        assert all(VOC_PALETTE[value] == colour for value, colour in colours.items())


def test_the_archive_for_vocs_server_holds_the_test_set_in_its_folders(objects: Path, tmp_path: Path) -> None:
    dataset = open_voc2012(objects, "test")
    archive = tmp_path / "results.tar.gz"
    write_voc_submission(_Constant(VOC2012), dataset, tmp_path / "out", archive=archive)
    with tarfile.open(archive, "r:gz") as content:
        assert content.getnames() == [
            f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in ("2009_000000", "2009_000001")
        ]
        content.extractall(tmp_path / "unpacked", filter="data")
    unpacked = read_label(tmp_path / "unpacked" / VOC_FOLDER / "2009_000001.png")
    assert (unpacked.shape, np.unique(unpacked).tolist()) == ((40, 56), [18])
    before = archive.read_bytes()
    write_voc_submission(_Constant(VOC2012), dataset, tmp_path / "out", archive=archive)
    assert archive.read_bytes() == before


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_cityscapes_submission, write_voc_submission])
def test_bad_input_says_how_to_go_on(write: Callable[..., list[Path]], tmp_path: Path) -> None:
    classes, other = (CITYSCAPES, VOC2012) if write is write_cityscapes_submission else (VOC2012, CITYSCAPES)
    frames, out = _Frames(("a_000000_000019",), size=(8, 8)), tmp_path / "out"
    with pytest.raises(UserError, match=rf"the model's classes: found {len(other)} .*needed the {len(classes)} of"):
        write(_Constant(other), frames, out)
    with pytest.raises(UserError, match=r"archive .*results\.rar: found .* needed \."):
        write(_Constant(classes), frames, out, archive=tmp_path / "results.rar")
    with pytest.raises(UserError, match="found no picture"):
        write(_Constant(classes), Unlabelled(classes, {}), out)
    (out / "deeper").mkdir(parents=True)
    (out / "deeper" / "b_000000_000019.png").write_bytes(b"of the user")
    with pytest.raises(UserError, match=r"1 pictures that are no results of these \(deeper/b_000000_000019\.png\)"):
        write(_Constant(classes), frames, out)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    broken = Unlabelled(classes, {"a_000000_000000": tmp_path / "broken.jpg"})
    archive = tmp_path / ("x.zip" if classes is CITYSCAPES else "x.tgz")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        write(_Constant(classes), broken, tmp_path / "new", archive=archive)
    assert not archive.exists()
