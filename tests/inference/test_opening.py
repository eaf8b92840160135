"""A network is opened by what it is, and every other kind of file is refused in one line."""

from pathlib import Path

import pytest
import torch

import ducseg
from ducseg.errors import UserError
from ducseg.inference.opening import open_labeller
from ducseg.inference.predictor import Predictor
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose `best` is a file that names the checkpoint, as where the file system has no links."""
    folder = tmp_path_factory.mktemp("run")
    save_segmenter(folder / "checkpoints" / "step-1", build("resnet18", "duc", 3, aspp=0, width=4))
    (folder / "best").write_text("checkpoints/step-1\n")
    return folder


@pytest.mark.parametrize("below", ["", "best", "checkpoints/step-1"])
def test_a_checkpoint_by_any_of_its_places(run: Path, below: str) -> None:
    labeller = open_labeller(run / below)
    assert isinstance(labeller, Predictor) and labeller.classes == labeller.model.classes


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"a letter\n", "no ONNX, or was cut short"),
        (bytes(range(256)) * 40, "no ONNX, or was cut short"),
        (b"x" * 5000, "no ONNX, or was cut short"),
        (b'{"format": 1}', "a JSON file"),
        (b"PK\x03\x04 and so on", r"torch\.save"),
        (b"\x40\0\0\0\0\0\0\0{}", "a safetensors file"),
        (b"\x89PNG\r\n\x1a\n", "a picture, where the network comes first; needed a checkpoint folder"),
        (b"\xff\xd8\xff\xe0", "a picture, where the network comes first"),
    ],
)
@pytest.mark.parametrize("name", ["network.onnx", "best", "network.pth"])
def test_another_file_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        open_labeller(tmp_path / name)
    assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_loading_an_exported_file_says_what_takes_it(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").touch()
    with pytest.raises(UserError, match=r"found an exported file .*`ducseg predict`.* in Python: .*open_labeller"):
        ducseg.load(tmp_path / "mine.onnx")


def test_an_empty_file_beside_a_checkpoint_is_no_checkpoint(run: Path, tmp_path: Path) -> None:
    place = run / "checkpoints" / "step-1" / "notes.txt"
    place.touch()
    with pytest.raises(UserError, match="an empty file"):
        open_labeller(place)
    place.unlink()


def test_what_is_not_there(tmp_path: Path) -> None:
    for name, words in (("x.onnx", "no such file"), ("x", "no such folder")):
        with pytest.raises(UserError, match=words):
            open_labeller(tmp_path / name)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError, match=r"no model\.json there"):
        open_labeller(tmp_path / "folder.onnx")


def test_tensors_of_a_checkpoint_alone(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"torch\.save or torch\.export wrote; needed a checkpoint folder"):
        open_labeller(tmp_path / "model.pth")
