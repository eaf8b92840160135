"""Weights as other programs wrap them are unwrapped, or named for what they are; damage is one error."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from ducseg.errors import UserError
from ducseg.models import Segmenter, build
from ducseg.weights.checkpoint import save_segmenter
from ducseg.weights.encoders import load_encoder


def small() -> Segmenter:
    return build("resnet18", "bilinear", 3, aspp=0, width=1)


SOURCE = small()
TENSORS = {key: value.clone() for key, value in SOURCE.encoder.state_dict().items()}
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def prefixed(prefix: str, tensors: dict[str, Tensor] = TENSORS) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


WRAPPED: list[tuple[Any, str]] = [
    (TENSORS, ""),
    (prefixed("module."), "module."),
    (prefixed("backbone."), "backbone."),
    (prefixed("model.backbone.body."), "model.backbone.body."),
    (prefixed("module._orig_mod.encoder."), "module._orig_mod.encoder."),
    ({"state_dict": TENSORS, "epoch": 3, "arch": "resnet18"}, ""),
    ({"state_dict": prefixed("module."), "optimizer": OPTIMIZER, "best_acc1": torch.tensor(70.0)}, "module."),
    ({"model": TENSORS, "ema": TENSORS, "optimizer": OPTIMIZER, "epoch": 3}, ""),
    ({"model_state_dict": TENSORS, "optimizer_state_dict": OPTIMIZER}, ""),
    ({"net": {"state_dict": TENSORS}}, ""),
    ({"mine": TENSORS, "epoch": 1}, ""),
    ({**TENSORS, "epoch": 3}, ""),
    ({**prefixed("backbone."), "head.weight": torch.zeros(3), "neck.0.conv1.weight": torch.zeros(3)}, "backbone."),
    ({**prefixed("module."), "module.fc.weight": torch.zeros(9, 8), "module.fc.bias": torch.zeros(9)}, "module."),
]


@pytest.mark.parametrize(("content", "prefix"), WRAPPED)
@pytest.mark.parametrize("legacy", [False, True])
def test_wrapped_weights_are_unwrapped(tmp_path: Path, content: Any, prefix: str, legacy: bool) -> None:
    path = tmp_path / "file.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    target = small()
    report = load_encoder(target, path)
    assert report.prefix == prefix and report.missing == ()
    for key, value in target.encoder.state_dict().items():
        assert torch.equal(value, TENSORS[key]), key


def test_what_stands_beside_the_prefix_is_in_the_report(tmp_path: Path) -> None:
    save_file({**prefixed("backbone."), "classifier.4.weight": torch.zeros(3)}, tmp_path / "file.safetensors")
    assert load_encoder(small(), tmp_path / "file.safetensors").unused == ("classifier.4.weight",)


def test_our_own_checkpoints_file_is_one_with_a_prefix(tmp_path: Path) -> None:
    save_segmenter(tmp_path / "checkpoint", SOURCE)
    target = small()
    report = load_encoder(target, tmp_path / "checkpoint" / "model.safetensors")
    assert report.prefix == "encoder." and all(key.startswith("head.") for key in report.unused)
    assert torch.equal(target.encoder.state_dict()["conv1.weight"], TENSORS["conv1.weight"])


class Pickled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 1, 7)


def scripted() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("archive/data.pkl", "archive/constants.pkl", "archive/code/__torch__.py"):
            archive.writestr(name, b"")
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([TENSORS], "something else than named tensors .a list"),
        ({"epoch": 3, "arch": "resnet18"}, "a dictionary of epoch, arch"),
        ({}, "a dictionary of nothing"),
        ({"optimizer": OPTIMIZER}, "a dictionary of optimizer"),
        ({"student": TENSORS, "teacher": TENSORS}, r"several networks \(student, teacher\)"),
        ({**prefixed("encoder_q."), **prefixed("encoder_k.")}, r"names below encoder_[qk]\. and encoder_[qk]\."),
        (Pickled(), r"a pickle of test_wrapped_weights\.Pickled, which would have to be executed"),
        pytest.param(
            scripted(), "a TorchScript module, which is code", id="TorchScript"
        ),  # bytes with the time in them
        pytest.param(bomb(), "a compressed archive", id="bomb"),
        ({**TENSORS, "bn1.weight": torch.tensor([float("nan")])}, "bn1.weight with infinite or undefined numbers"),
        ({**TENSORS, "bn1.weight": torch.ones(1, dtype=torch.int8)}, r"bn1.weight as torch.int8 on cpu"),
        ({**TENSORS, "bn1.weight": torch.ones(1, dtype=torch.complex64)}, "bn1.weight as torch.complex64"),
        ({**TENSORS, "bn1.weight": torch.ones(1, device="meta")}, "bn1.weight as torch.float32 on meta"),
        ({**TENSORS, "conv1.weight": torch.zeros(1).expand(10**9, 3, 7, 7)}, "where .1, 3, 7, 7. is needed"),
        ({**TENSORS, "bn1.weight": torch.ones(1).to_sparse()}, "no bn1.weight"),
    ],
)
def test_what_cannot_be_unwrapped_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=message) as caught:
        load_encoder(small(), path)
    assert "\n" not in str(caught.value)


def saved(legacy: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": TENSORS, "epoch": 3}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


FILES = {legacy: saved(legacy) for legacy in (False, True)}


@settings(max_examples=80)
@given(st.booleans(), st.data())
def test_any_damage_is_one_error_or_a_network(
    tmp_path_factory: pytest.TempPathFactory, legacy: bool, data: st.DataObject
) -> None:
    raw = bytearray(FILES[legacy])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(raw)))) % max(
            1, len(raw)
        )  # earlier damage may have cut
        match data.draw(st.sampled_from(["set", "flip", "delete", "insert", "cut"])):
            case "set":
                raw[at : at + 1] = data.draw(st.binary(min_size=1, max_size=8))
            case "flip" if raw:
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "delete":
                del raw[at : at + data.draw(st.integers(1, 9))]
            case "insert":
                raw[at:at] = data.draw(st.binary(max_size=9))
            case _:
                del raw[max(at, 1) :]
    path = tmp_path_factory.getbasetemp() / "fuzz.pth"
    path.write_bytes(bytes(raw))
    try:
        load_encoder(small(), path, allow_missing=True)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"x" * 100, b"<!DOCTYPE html>", b"\x80\x02junk"])
def test_what_does_not_read_never_advises_to_execute_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "junk.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"found a file that does not read \(\w") as caught:
        load_encoder(small(), str(tmp_path / "junk.pth"))
    assert "weights_only" not in str(caught.value)
