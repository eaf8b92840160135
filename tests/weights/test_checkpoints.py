"""The checkpoint folder: whole or not there, and a clear word for everything that can be wrong with one."""

import copy
import json
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import ducseg.weights.checkpoint as store
from ducseg.classes import CAMVID
from ducseg.errors import UserError
from ducseg.metrics.confusion import scores, to_json
from ducseg.models import Preprocessing, Segmenter, build, generic_classes
from ducseg.models.fuse import fuse_batch_norm
from ducseg.models.heads import make_head
from ducseg.weights.checkpoint import (
    checkpoint_folder,
    load_segmenter,
    read_model_json,
    save_segmenter,
    write_model_files,
)


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

    monkeypatch.setattr(store, "sync", full_disk)
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


ABSURD: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda d: d["architecture"].update(aspp=10**9), r"aspp=1000000000 is not in 0\.\.32"),
    (lambda d: d["architecture"].update(width=10**6), "width=1000000"),
    (lambda d: d["architecture"].update(aspp=32, width=1024, encoder="resnet152", dilation="none"), "do not fit"),
    (lambda d: d["architecture"].update(num_classes="11"), "num_classes='11' is not a whole number"),
    (lambda d: d["architecture"].update(num_classes=11.0), "num_classes=11.0 is not a whole number"),
    (lambda d: d["architecture"].update(dilation=[[1, 2], [5, 10**12]]), "above 1024"),
    (lambda d: d["architecture"].update(dilation={"res4": 1}), "dilation="),
    (lambda d: d["architecture"].update(pool_padding="no"), "pool_padding='no'"),
    (lambda d: d["architecture"].update(batch_norm_eps=float("nan")), "NaN for a number"),
    (lambda d: d["preprocessing"].update(mean=[float("nan"), 0, 0]), "NaN for a number"),
    (lambda d: d["preprocessing"].update(std=[float("inf"), 1, 1]), "Infinity for a number"),
    (lambda d: d["preprocessing"].update(mean=["1", 2, 3]), "preprocessing"),
    (lambda d: d["preprocessing"].update(mean="123"), "preprocessing"),
    (lambda d: d["preprocessing"].update(mean=[True, 2, 3]), "preprocessing"),
    (lambda d: d["preprocessing"].update(mean=[1e300, 2, 3]), "preprocessing"),
    (lambda d: d["preprocessing"].update(std=[1, 2]), "preprocessing"),
    (lambda d: d["preprocessing"].update(gain=2), "preprocessing"),
    (lambda d: d["classes"][0].update(name=None), "classes"),
    (lambda d: d["classes"][0].update(color=[1.5, 2, 3]), "classes"),
    (lambda d: d["classes"][0].update(color=[300, 2, 3]), "classes"),
    (lambda d: d["classes"].__setitem__(0, "sky"), "classes"),
    (lambda d: d.update(classes={"sky": 1}), "does not read .classes"),
    (lambda d: d.update(metrics=[1]), "does not read .metrics"),
    (lambda d: d.update(extra="command"), "does not read .extra"),
    (lambda d: d.update(versions=3), "does not read .versions"),
    (lambda d: d.update(format=True), "does not read .format"),
    (lambda d: d.update(format="1"), "does not read .format"),
    (lambda d: d.update(format=10**30), "format 1000"),
]


@pytest.mark.parametrize(("change", "message"), ABSURD)
def test_another_kind_or_an_absurd_value_is_one_error_and_takes_no_memory(
    checkpoint: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(change)(checkpoint)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=message):
        load_segmenter(checkpoint)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB"


@pytest.mark.slow
@settings(max_examples=100)
@given(st.data())
def test_any_value_in_place_of_any_other_is_an_error_or_a_network(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = Path(__file__).parent / "checkpoint-0.1.0"
    target = tmp_path_factory.getbasetemp() / "mutated"
    shutil.copytree(folder, target, dirs_exist_ok=True)
    description = json.loads((folder / "model.json").read_text())
    section: Any = {"the whole": description}
    key: Any = "the whole"
    for _ in range(data.draw(st.integers(1, 4))):
        inside = section[key]
        if not isinstance(inside, dict | list) or not inside:
            break
        section, key = inside, data.draw(st.sampled_from(list(inside) if isinstance(inside, dict) else [0, -1]))
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
    section[key] = data.draw(st.recursive(leaves, lambda inner: st.lists(inner, max_size=3)))
    (target / "model.json").write_text(json.dumps(description))
    try:
        load_segmenter(target)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_undefined_numbers_are_not_loaded(checkpoint: Path, value: float) -> None:
    edit_tensors(lambda t: t["encoder.bn1.weight"].fill_(value))(checkpoint)
    with pytest.raises(UserError, match=r"infinite or undefined numbers in 1 tensors, first encoder.bn1.weight"):
        load_segmenter(checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_undefined_numbers_are_not_written(segmenter: Segmenter, tmp_path: Path, value: float) -> None:
    broken = copy.deepcopy(segmenter)
    broken.state_dict()["encoder.bn1.running_var"][0] = value
    with pytest.raises(
        UserError, match=r"saving a checkpoint: found infinite or undefined numbers in 1 tensors, first"
    ):
        save_segmenter(tmp_path / "checkpoint", broken)
    assert not list(tmp_path.iterdir())


def test_numbers_of_another_kind_are_refused_and_half_precision_is_not(checkpoint: Path, segmenter: Segmenter) -> None:
    edit_tensors(lambda t: t.update({key: value.half() for key, value in t.items() if value.is_floating_point()}))(
        checkpoint
    )
    again = load_segmenter(checkpoint)
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    torch.testing.assert_close(again.encoder.conv1.weight, segmenter.encoder.conv1.weight, rtol=1e-3, atol=1e-3)
    edit_tensors(lambda t: t.update({"encoder.bn1.weight": torch.ones(4, dtype=torch.int64)}))(checkpoint)
    with pytest.raises(UserError, match=r"encoder.bn1.weight as I64 numbers"):
        load_segmenter(checkpoint)


def dilate(segmenter: Segmenter) -> None:
    segmenter.encoder.layer4[0].conv2.dilation = segmenter.encoder.layer4[0].conv2.padding = (3, 3)  # type: ignore


def another_head(segmenter: Segmenter) -> None:
    segmenter.head = make_head("bilinear", 32, 11, output_stride=8, cell=1, aspp=0)


def another_class_count(segmenter: Segmenter) -> None:
    segmenter.head = make_head("duc", 32, 5, output_stride=8, cell=1, aspp=0)
    segmenter.classes = generic_classes(5)


def other_eps(segmenter: Segmenter) -> None:
    segmenter.encoder.bn1.eps = 1e-3  # type: ignore[union-attr]


def no_activation(segmenter: Segmenter) -> None:
    segmenter.encoder.relu = torch.nn.Identity()  # type: ignore[assignment, union-attr]


def other_stride(segmenter: Segmenter) -> None:
    segmenter.encoder.layer2[0].conv1.stride = (1, 1)  # type: ignore[index, union-attr]


def one_more_block(segmenter: Segmenter) -> None:
    segmenter.encoder.layer1.append(torch.nn.Identity())  # type: ignore[union-attr]


def a_head_of_ones_own(segmenter: Segmenter) -> None:
    segmenter.head = torch.nn.Conv2d(32, 11, 1)  # type: ignore[assignment]


def a_forward_of_its_own(segmenter: Segmenter) -> None:
    segmenter.encoder.forward = lambda images: images  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (a_head_of_ones_own, "grid unknown, factor unknown"),
        (a_forward_of_its_own, r"encoder is ResNet\(\) with a forward of its own"),
        (dilate, r"encoder.layer4.0.conv2 is Conv2d\(.*dilation=\(3, 3\).*, described as .*dilation=\(5, 5\)"),
        (another_head, "factor 1"),
        (another_class_count, "5 classes"),
        (other_eps, "eps=0.001"),
        (no_activation, r"encoder.relu is Identity\(\), described as ReLU"),
        (other_stride, r"stride=\(1, 1\)"),
        (one_more_block, r"encoder.layer1.2 is Identity\(\), described as not there"),
    ],
)
def test_a_network_changed_after_it_was_built_is_not_saved_as_what_it_was(
    segmenter: Segmenter, tmp_path: Path, change: Callable[[Segmenter], None], part: str
) -> None:
    changed = copy.deepcopy(segmenter)
    change(changed)
    with pytest.raises(UserError, match=part):
        save_segmenter(tmp_path / "checkpoint", changed)
    assert list(tmp_path.iterdir()) == []


def test_tied_weights_are_saved(segmenter: Segmenter, tmp_path: Path) -> None:
    tied = copy.deepcopy(segmenter)
    first, second = tied.encoder.layer1  # type: ignore[misc, union-attr]
    first.conv2.weight = second.conv2.weight
    save_segmenter(tmp_path / "checkpoint", tied)
    again = load_segmenter(tmp_path / "checkpoint").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in tied.state_dict().items())


def test_what_does_not_change_the_function_is_saved(segmenter: Segmenter, tmp_path: Path) -> None:
    changed = copy.deepcopy(segmenter)
    changed.encoder.bn1.momentum = 0.01  # type: ignore[union-attr]
    changed.encoder.relu.inplace = False  # type: ignore[union-attr]
    changed.freeze_batch_norm()
    save_segmenter(tmp_path / "checkpoint", torch.nn.SyncBatchNorm.convert_sync_batchnorm(changed))
    assert load_segmenter(tmp_path / "checkpoint").architecture == segmenter.architecture


def test_a_run_folder_and_one_without_its_links(checkpoint: Path, segmenter: Segmenter) -> None:
    assert load_segmenter(checkpoint.parent).architecture == segmenter.architecture
    (checkpoint.parent / "checkpoints").mkdir()
    for step in (3, 20):
        shutil.copytree(checkpoint, checkpoint.parent / "checkpoints" / f"step-{step:08d}")
    shutil.rmtree(checkpoint)
    assert checkpoint_folder(checkpoint.parent).name == "step-00000020"


@pytest.mark.parametrize("wrong", [{"mean_iou": float("inf")}, {"mean_iou": object()}, {"mean_iou": np.float32(1)}])
def test_metrics_that_are_no_json_are_refused_with_the_way_out(
    segmenter: Segmenter, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"metrics and notes .*to_json\(scores\)"):
        save_segmenter(tmp_path / "checkpoint", segmenter, metrics=wrong)
    assert list(tmp_path.iterdir()) == []
    undefined = scores(np.diag([3, *[0] * 10]), segmenter.classes)  # ten classes without a pixel: NaN
    save_segmenter(tmp_path / "checkpoint", segmenter, metrics=to_json(undefined))
    saved = json.loads((tmp_path / "checkpoint" / "model.json").read_text())["metrics"]
    assert [one["iou"] for one in saved["classes"].values()] == [1.0, *[None] * 10]


def test_a_pyramid_whose_channels_lie_in_the_order_of_pixel_shuffle(tmp_path: Path) -> None:
    """Checkpoints of November 2026, whose steps shuffled channel 4k + q, load as what they computed."""
    torch.manual_seed(0)
    segmenter = build(
        encoder="mobilenet_v2", head="pyramid", num_classes=2, output_stride=32, aspp=0, dilation="none"
    ).eval()
    save_segmenter(tmp_path / "net", segmenter)
    tensors = {}
    for key, tensor in load_file(tmp_path / "net" / "model.safetensors").items():
        found = re.fullmatch(r"(head\.steps\.\d+\.)expand(.*)", key)
        if found and tensor.ndim:
            tensor = tensor.unflatten(0, (4, -1)).transpose(0, 1).flatten(0, 1).contiguous()
        tensors[found[1] + "up" + found[2] if found else key] = tensor
    assert sum(".up_norm." in key for key in tensors) == 4 * 5
    save_file(tensors, tmp_path / "net" / "model.safetensors")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_segmenter(tmp_path / "net")(images), segmenter(images))
