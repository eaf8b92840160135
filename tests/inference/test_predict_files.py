from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from ducseg.classes import CAMVID
from ducseg.data.sample import Sample
from ducseg.errors import UserError
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predict_files import find_pictures, predict_files


class Threshold:
    """Class 1 where the picture is bright."""

    model: Any = SimpleNamespace(classes=CAMVID)

    def __call__(self, image: Any, /) -> Any:
        return (image.mean(2) > 128).astype(np.uint8)


def write_picture(path: Path, value: int = 200, size: tuple[int, int] = (9, 13)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


def names(inputs: list[Any]) -> list[str]:
    return [str(name) for _, name in find_pictures(inputs)]


def test_folders_keep_their_tree_files_their_name(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/b/y.jpg", "z.png"):
        write_picture(tmp_path / name)
    (tmp_path / "a" / "notes.txt").touch()
    assert names([tmp_path / "a", tmp_path / "z.png"]) == ["b/y", "x", "z"]
    assert names([str(tmp_path / "a" / "*.png")]) == ["x"]
    assert names([str(tmp_path / "**" / "*.jpg")]) == ["y"]
    assert names([tmp_path / "z.png", tmp_path / "z.png"]) == ["z"]


def test_names_that_meet_are_told_apart(tmp_path: Path) -> None:
    files = [write_picture(tmp_path / name) for name in ("a/x.png", "b/x.png", "c/x.jpg", "c/x.png", "d/w.png")]
    assert names(list(files)) == ["a/x", "b/x", "c/x.jpg", "c/x.png", "w"]


def test_an_input_without_pictures_is_refused_with_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file, folder or glob"):
        find_pictures([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="folder without pictures"):
        find_pictures([tmp_path / "empty"])


def test_every_kind_is_written_at_the_pictures_size(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "x.png")
    report = predict_files(Threshold(), [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in report.written] == ["x.png"]
    labels = cv2.imread(str(tmp_path / "out" / "x_labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (9, 13)
    assert (labels == 1).all()
    colour = cv2.imread(str(tmp_path / "out" / "x_color.png"))[..., ::-1]
    assert (colour == CAMVID.palette[1]).all()
    overlaid = cv2.imread(str(tmp_path / "out" / "x_overlay.png"))
    assert overlaid.shape[0] > 9


def test_a_broken_picture_is_reported_and_the_others_done(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"nothing")
    write_picture(tmp_path / "in" / "c.png")
    report = predict_files(Threshold(), [tmp_path / "in"], tmp_path / "out", kinds=("labels",))
    assert [path.name for path in report.written] == ["a.png", "c.png"]
    ((path, message),) = report.failed
    assert path.name == "b.png"
    assert "b.png" in message
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a_labels.png", "c_labels.png"]


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="some of labels, color, overlay"):
        predict_files(Threshold(), [write_picture(tmp_path / "a.png")], tmp_path, kinds=("colour",))  # type: ignore[list-item]


class Pictures:
    """Half of each picture is what `Threshold` says."""

    classes = CAMVID
    ids = ("a", "b", "c")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        label = np.array([[1, 0], [255, 1]], np.uint8)
        return Sample(image=np.full((2, 2, 3), 255, np.uint8), label=label, id=self.ids[index], original_size=(2, 2))


def test_shards_of_an_evaluation_add_up_to_the_whole() -> None:
    whole = evaluate(Threshold(), Pictures())
    parts = [
        evaluate(Threshold(), Pictures(), indices=indices) for indices in (range(0, 3, 2), range(1, 3, 2), range(0))
    ]
    assert whole.num_images == 3
    assert (whole.matrix[0, 1], whole.matrix[1, 1], whole.matrix.sum()) == (3, 6, 9)
    assert np.array_equal(whole.matrix, sum(part.matrix for part in parts))


def test_other_classes_are_refused() -> None:
    from ducseg.classes import CITYSCAPES

    labeller = Threshold()
    labeller.model = SimpleNamespace(classes=CITYSCAPES)
    with pytest.raises(UserError, match=r"11 classes.*model's 19"):
        evaluate(labeller, Pictures())
