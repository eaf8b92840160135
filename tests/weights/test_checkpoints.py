"""The checkpoint folder: whole or not there, and a clear word for everything that can be wrong with one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import ducseg.weights.checkpoint as store
from ducseg.classes import CAMVID
from ducseg.errors import UserError
from ducseg.models import Preprocessing, Segmenter, build
from ducseg.models.fuse import fuse_batch_norm
from ducseg.weights.checkpoint import load_segmenter, read_model_json, save_segmenter, write_model_files


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    authors = Preprocessing(mean=(122.675, 116.669, 104.008), std=(1.0, 1.0, 1.0))
    return build(
        "resnet18", "duc", 11, aspp=0, width=4, dilation=((1, 2), (5, 9)), classes=CAMVID, preprocessing=authors
    )


@pytest.fixture()
def checkpoint(segmenter: Segmenter, tmp_path: Path) -> Path:
    save_segmenter(tmp_path / "runs" / "best", segmenter, metrics={"mean_iou": 0.5}, extra={"command": "ducseg train"})
    return tmp_path / "runs" / "best"


def test_a_folder_of_two_files_that_says_what_it_is(checkpoint: Path) -> None:
    assert sorted(path.name for path in checkpoint.iterdir()) == ["model.json", "model.safetensors"]
    assert [path.name for path in checkpoint.parent.iterdir()] == ["best"], "no temporary folder is left"
    assert checkpoint.stat().st_mode & 0o777 == 0o755
    description = read_model_json(checkpoint)
    assert description["metrics"] == {"mean_iou": 0.5} and description["extra"] == {"command": "ducseg train"}
    assert description["architecture"]["encoder"] == "resnet18"
    assert description["classes"][0] == {"name": "sky", "color": [128, 128, 128]}
    assert {"ducseg", "torch"} <= description["versions"].keys()


def test_loaded_is_the_same_network(checkpoint: Path, segmenter: Segmenter) -> None:
    random_state = torch.get_rng_state()
    again = load_segmenter(checkpoint)
    assert torch.equal(random_state, torch.get_rng_state()), "loading uses no random numbers"
    assert not again.training and again.classes == CAMVID and again.preprocessing == segmenter.preprocessing
    assert again.architecture == segmenter.architecture and again.encoder.rates == segmenter.encoder.rates
    for (name, one), (_, other) in zip(again.state_dict().items(), segmenter.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_loaded_tensors_do_not_hang_on_the_file(checkpoint: Path) -> None:
    again = load_segmenter(checkpoint)
    before = again.head.state_dict()
    (checkpoint / "model.safetensors").write_bytes(b"")
    assert all(torch.equal(value, before[key]) for key, value in again.head.state_dict().items())


def test_files_can_be_written_into_a_folder_of_the_callers(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "train_state.pt").write_bytes(b"")
    write_model_files(tmp_path, segmenter)
    assert load_segmenter(tmp_path).architecture == segmenter.architecture
    assert read_model_json(tmp_path)["metrics"] is None


def test_a_taken_name_is_refused(checkpoint: Path, segmenter: Segmenter) -> None:
    before = (checkpoint / "model.json").read_bytes()
    with pytest.raises(UserError, match="that name taken"):
        save_segmenter(checkpoint, segmenter, metrics={"mean_iou": 0.9})
    assert (checkpoint / "model.json").read_bytes() == before


def test_a_fused_copy_is_not_saved(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="fuse_batch_norm"):
        save_segmenter(tmp_path / "fused", fuse_batch_norm(segmenter))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_fsync", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        save_segmenter(tmp_path / "checkpoint", segmenter)
    assert list(tmp_path.iterdir()) == []


def test_a_nan_score_is_not_written_as_broken_json(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_segmenter(tmp_path / "checkpoint", segmenter, metrics={"mean_iou": float("nan")})
    assert list(tmp_path.iterdir()) == []


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "model.json"
        description = json.loads(path.read_text())
        change(description)
        path.write_text(json.dumps(description))

    return apply


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = {key: value.clone() for key, value in load_file(path).items()}
        change(tensors)
        save_file(tensors, path)

    return apply


def eleven_classes_to_five(description: dict[str, Any]) -> None:
    description["classes"] = description["classes"][:5]
    description["architecture"]["num_classes"] = 5


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size]) and None  # type: ignore[func-returns-value]


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "no such folder"),
    (lambda folder: (folder / "model.json").unlink(), "no model.json there, nor in best/ or last/"),
    (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors that does not read"),
    (cut("model.safetensors", 0), "model.safetensors that does not read"),
    (cut("model.safetensors", 1000), "model.safetensors that does not read"),
    (cut("model.safetensors", 60_000), "model.safetensors that does not read"),
    (cut("model.json", 100), "model.json that does not read"),
    (lambda folder: (folder / "model.json").write_bytes(b"\x80\x04\xff"), "model.json that does not read"),
    (lambda folder: (folder / "model.json").write_text("[1]"), "model.json that does not read"),
    (edit(lambda d: d.pop("classes")), "model.json that does not read"),
    (edit(lambda d: d.update(format=2)), "format 2, written by ducseg"),
    (edit(lambda d: d["architecture"].update(encoder="vgg")), "describes no network .*encoder='vgg'"),
    (edit(lambda d: d["architecture"].update(colour="red")), "describes no network"),
    (edit(lambda d: d.update(architecture=3)), "does not read .architecture 3"),
    (edit(lambda d: d.update(preprocessing={"mean": 3})), "describes no network"),
    (edit(lambda d: d["classes"].pop()), "num_classes=11 but classes names 10"),
    (edit(eleven_classes_to_five), r"\(704, 32, 3, 3\) where \(320, 32, 3, 3\) is needed.*5 classes"),
    (edit_tensors(lambda t: t.pop("encoder.conv1.weight")), "no encoder.conv1.weight"),
    (edit_tensors(lambda t: t.update(extra=torch.zeros(1))), "extra, which this architecture does not have"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN)
def test_damage_is_named(checkpoint: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(checkpoint)
    with pytest.raises(UserError, match=message) as caught:
        load_segmenter(checkpoint)
    assert str(checkpoint) in str(caught.value)
