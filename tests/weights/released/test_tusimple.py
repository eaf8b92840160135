"""The authors' network from their files, against MXNet's own answers; and files that are not it."""

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet_files import header, list_of, ndarray, onnx_file, params_file, small_network, sparse

import ducseg
from ducseg.classes import CITYSCAPES, VOC2012
from ducseg.cli import main
from ducseg.errors import UserError
from ducseg.inference.predictor import Predictor
from ducseg.models.segmenter import Segmenter
from ducseg.ops.duc import unfold
from ducseg.weights import tusimple
from ducseg.weights.released import onnx as onnx_zoo
from ducseg.weights.released.importing import import_file

FILES = ("narrow-0001.params", "narrow-v1.params", "narrow-v0.params", "narrow-mxnet.onnx")


@pytest.fixture(scope="session")
def fixtures(shared: Path) -> Path:
    return shared / "fixtures" / "tusimple"


@pytest.fixture(params=FILES)
def segmenter(fixtures: Path, request: pytest.FixtureRequest) -> Segmenter:
    load = onnx_zoo.load if request.param.endswith(".onnx") else tusimple.load
    return load(fixtures / request.param)


def test_the_file_says_what_network_it_is(segmenter: Segmenter) -> None:
    assert segmenter.architecture.to_json() == {
        "encoder": "resnet101",
        "head": "duc",
        "num_classes": 19,
        "output_stride": 8,
        "cell": 2,
        "aspp": 4,
        "dilation": "released",
        "stem": "3x3",
        "stride_in": "1x1",
        "pool_padding": False,
        "batch_norm_eps": 1e-6,
        "width": 4,
    }
    assert segmenter.classes == CITYSCAPES
    assert segmenter.preprocessing.to_json() == {"mean": [122.675, 116.669, 104.008], "std": [1.0, 1.0, 1.0]}
    assert not segmenter.training


def test_logits_and_probabilities_are_mxnets(segmenter: Segmenter, fixtures: Path) -> None:
    answers = np.load(fixtures / "narrow-io.npz")
    with torch.no_grad():
        logits = segmenter.folded(torch.from_numpy(answers["data"])).flatten(1, 2)
    assert np.abs(logits.numpy() - answers["logits"]).max() < 1e-4 * np.abs(answers["logits"]).max()
    # the authors' output is class x (row in the cell, column in the cell, place), softened over the classes
    softened = logits.reshape(1, 19, -1).softmax(1).numpy()
    np.testing.assert_allclose(softened, answers["prob"], atol=1e-5)


def test_the_photos_labels_are_the_authors(segmenter: Segmenter, fixtures: Path) -> None:
    photo = np.load(fixtures / "narrow-photo.npz")
    assert (Predictor(segmenter)(photo["image"]) == photo["labels"]).mean() >= 0.999


def test_predictor_resizes_probabilities_as_opencv(fixtures: Path) -> None:
    photo = np.load(fixtures / "narrow-photo.npz")
    found = Predictor(tusimple.load(fixtures / FILES[0])).probabilities(photo["image"])
    height, width = photo["labels"].shape
    theirs = np.stack(
        [cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in photo["probabilities"]]
    )
    np.testing.assert_allclose(found, theirs, atol=1e-4)
    # resizing scores in place of probabilities would not pass this
    scores = torch.from_numpy(np.log(photo["probabilities"]))[None]
    other = torch.nn.functional.interpolate(scores, scale_factor=2.0, mode="bilinear").softmax(1)[0].numpy()
    assert np.abs(other - theirs).max() > 1e-2


@pytest.mark.parametrize(("height", "width"), [(157, 203), (9, 8), (8, 17)])
def test_predictor_takes_the_authors_steps_at_any_size(fixtures: Path, height: int, width: int) -> None:
    segmenter = tusimple.load(fixtures / FILES[0])
    image = np.load(fixtures / "narrow-photo.npz")["image"][:height, :width]
    mean = np.array([122.675, 116.669, 104.008], np.float32)
    padded = cv2.copyMakeBorder(
        image.astype(np.float32), 0, -height % 8, 0, -width % 8, cv2.BORDER_CONSTANT, value=[float(x) for x in mean]
    )
    with torch.no_grad():
        folded = segmenter.folded(torch.from_numpy(padded - mean).permute(2, 0, 1)[None])
        half = unfold(folded)[0].softmax(0)[:, : -(-height // 2), : -(-width // 2)].numpy()
    size = (2 * half.shape[2], 2 * half.shape[1])
    theirs = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in half])[:, :height, :width]
    np.testing.assert_allclose(Predictor(segmenter).probabilities(image), theirs, atol=1e-5)


def written(path: Path, arrays: Mapping[str, Any], version: int = 2) -> Path:
    path.write_bytes(params_file(arrays, version))
    return path


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_file_of_every_layout_loads(tmp_path: Path, version: int) -> None:
    arrays = small_network()
    found = tusimple.load(written(tmp_path / "file.params", arrays, version))
    state = found.state_dict()
    assert found.architecture.encoder == "resnet50" and found.classes.names == ("class0", "class1", "class2")
    np.testing.assert_array_equal(state["head.paths.1.conv.bias"], arrays["fc1_toys_c1_bias"])
    np.testing.assert_array_equal(
        state["encoder.layer3.5.bn3.running_var"], arrays["conv4_6_1x1_increase/bn_moving_var"]
    )
    np.testing.assert_array_equal(state["encoder.conv1.6.weight"], arrays["conv1_3_3x3_weight"])


def test_loading_uses_no_random_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "file.params", small_network())
    before = torch.get_rng_state()
    tusimple.load(path)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "channels", "num_classes", "cell", "names"),
    [
        ("fc1_cityscapes", 19 * 16, None, 2, CITYSCAPES.names),
        ("fc1_cityscapes", 19 * 64, None, 1, CITYSCAPES.names),
        ("fc1_mine", 19 * 16, None, 2, CITYSCAPES.names),
        ("fc1_mine", 19 * 64, None, 1, CITYSCAPES.names),
        ("fc1_voc2012", 21 * 64, None, 1, VOC2012.names),
        ("fc1_voc2012", 21 * 4, None, 4, VOC2012.names),
        ("fc1_cityscapes", 5 * 16, None, 2, tuple(f"class{i}" for i in range(5))),
        ("fc1_mine", 20 * 16, 20, 2, tuple(f"class{i}" for i in range(20))),
        ("fc1_mine", 20 * 16, 5, 1, tuple(f"class{i}" for i in range(5))),
        ("fc1_cityscapes", 19 * 16, 76, 4, tuple(f"class{i}" for i in range(76))),
    ],
)
def test_classes_and_cell_come_from_the_head(
    tmp_path: Path, name: str, channels: int, num_classes: int | None, cell: int, names: tuple[str, ...]
) -> None:
    path = written(tmp_path / "file.params", small_network(channels=channels, paths=1, name=name))
    found = tusimple.load(path, num_classes=num_classes)
    assert (found.cell, found.classes.names, found.architecture.aspp) == (cell, names, 1)


@pytest.mark.parametrize(
    ("channels", "num_classes", "message"),
    [
        (20 * 16, None, "320 channels, which is 5 classes with cell 1 or 20 classes with cell 2 or 80"),
        (20 * 16, 19, "needed one number of classes, not 19"),
        (303, None, "303 channels, which is of no DUC"),
    ],
)
def test_classes_that_the_head_does_not_tell_are_asked_for(
    tmp_path: Path, channels: int, num_classes: int | None, message: str
) -> None:
    path = written(tmp_path / "file.params", small_network(channels=channels, paths=1))
    with pytest.raises(UserError, match=message):
        tusimple.load(path, num_classes=num_classes)


def zeros(*shape: int) -> Any:
    return np.zeros(shape, "<f4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"conv3_1_1x1_reduce_weight": None, "conv3_2_3x3/bn_beta": None},
            "no conv3_1_1x1_reduce_weight, no conv3_2_3x3",
        ),
        ({"conv3_1_3x3_weight": zeros(2, 2, 1, 1)}, r"conv3_1_3x3_weight \(2, 2, 1, 1\) where \(2, 2, 3, 3\)"),
        ({"more": zeros(3)}, "more, which it does not have"),
        ({"../../etc/passwd": zeros(1)}, "passwd, which it does not have"),
        ({"conv4_6_3x3_weight": None}, r"\(3, 4, 5, 3\) blocks in res2..res5"),
        ({"conv1_1_3x3_s2_weight": None}, "no conv1_1_3x3_s2_weight"),
        ({"conv1_1_3x3_s2_weight": zeros(5)}, r"conv1_1_3x3_s2_weight \(5,\) where \(5, 3, 3, 3\)"),
        ({"fc1_toys_c0_weight": None}, "no fc1_toys_c0_weight"),
        ({"fc1_toys_c0_weight": None, "fc1_toys_c1_weight": None}, "no fc1_NAME_c0_weight"),
        ({"fc1_other_c0_weight": zeros(48, 32, 3, 3)}, "which it does not have"),
        ({"fc1_toys_c1_weight": zeros(48, 32, 1, 1)}, r"\(48, 32, 1, 1\) where \(48, 32, 3, 3\)"),
        ({"conv2_1_3x3/bn_gamma": np.array([np.nan], "<f4")}, "infinite or undefined"),
    ],
)
def test_another_network_is_refused_with_what_differs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arrays = {name: array for name, array in (small_network() | changes).items() if array is not None}
    with pytest.raises(UserError, match=message):
        tusimple.load(written(tmp_path / "file.params", arrays))


def test_one_message_names_other_numbers_and_sparse_arrays(tmp_path: Path) -> None:
    arrays = {f"arg:{name}": ndarray(array) for name, array in small_network().items()}
    arrays["arg:conv2_1_3x3_weight"] = ndarray(np.zeros((1, 1, 3, 3), "<f2"), kind=2)
    arrays["arg:conv2_1_3x3/bn_gamma"] = sparse(1, 6, 2)
    path = tmp_path / "file.params"
    path.write_bytes(list_of(arrays))
    with pytest.raises(UserError) as caught:
        tusimple.load(path)
    assert "conv2_1_3x3_weight as float16" in str(caught.value)
    assert "conv2_1_3x3/bn_gamma as row_sparse" in str(caught.value)


def test_a_name_as_arg_and_as_aux_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.params"
    path.write_bytes(list_of({"arg:conv1": ndarray(zeros(1)), "aux:conv1": ndarray(zeros(1))}))
    with pytest.raises(UserError, match="conv1 both as arg: and as aux:"):
        tusimple.load(path)


@pytest.mark.parametrize(("source", "file"), [("tusimple", FILES[0]), ("onnx-zoo", FILES[3])])
def test_import_writes_a_checkpoint_that_loads(fixtures: Path, tmp_path: Path, source: Any, file: str) -> None:
    line = import_file(source, fixtures / file, tmp_path / "authors")
    assert line.endswith(
        "authors: resnet101, width 4, DUC with cell 2, ASPP 4, 19 classes (road, ... bicycle), 1,574,844 parameters"
    )
    direct, again = tusimple.load(fixtures / FILES[0]), ducseg.load(tmp_path / "authors").model
    assert again.classes == CITYSCAPES and again.preprocessing == direct.preprocessing
    for name, value in direct.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["authors"]


def test_import_into_an_empty_folder_but_never_over_anything(tmp_path: Path) -> None:
    path = written(tmp_path / "file.params", small_network())
    out = tmp_path / "out"
    out.mkdir()
    import_file("tusimple", path, out)
    before = {one.name: one.read_bytes() for one in out.iterdir()}
    with pytest.raises(UserError, match="files in it"):
        import_file("tusimple", path, out)
    assert {one.name: one.read_bytes() for one in out.iterdir()} == before
    with pytest.raises(UserError, match="a file there"):
        import_file("tusimple", path, path)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="name taken"):
        import_file("tusimple", path, tmp_path / "link")
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("source", ["tusimple", "onnx-zoo"])
def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path, source: Any) -> None:
    whole = params_file(small_network()) if source == "tusimple" else onnx_file(small_network())
    damaged = tmp_path / "damaged"
    for length in (0, 1, 10, 1000, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged"):
            import_file(source, damaged, tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_a_network_that_its_file_does_not_hold_is_never_built(tmp_path: Path) -> None:
    """Names and shapes of a network of 10**15 parameters: a stem that is wide, and all else narrow."""
    path = written(tmp_path / "file.params", small_network() | {"conv1_1_3x3_s2_weight": zeros(50_000, 3, 3, 3)})
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"conv1_2_3x3_weight \(1, 1, 3, 3\) where \(50000, 50000, 3, 3\)"):
            tusimple.load(path)
        claims = list_of({"arg:conv1_1_3x3_s2_weight": header(2**30, 3, 3, 3)}).ljust(1000, b"\0")
        path.write_bytes(claims)
        with pytest.raises(UserError, match="announced"):
            tusimple.load(path)
        assert tracemalloc.get_traced_memory()[1] < size / 2, "not even the file is in memory"
    finally:
        tracemalloc.stop()


SMALL = params_file(small_network(channels=12, paths=1))
"""3 classes with cell 4 and one path: 25 kB, most of them headers and names."""


@settings(max_examples=40)
@given(st.data())
def test_any_damage_is_an_error_or_a_network(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 3))):
        # the kernels of the head have few headers: draw before and behind them
        at = data.draw(st.one_of(st.integers(0, 30), st.integers(0, 8_000), st.integers(len(raw) - 9_000, len(raw))))
        match data.draw(st.sampled_from(["set", "flip", "delete", "insert"])):
            case "set":
                raw[at : at + 8] = data.draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little")[: len(raw) - at]
            case "flip" if at < len(raw):
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "delete":
                del raw[at : at + data.draw(st.integers(1, 9))]
            case _:
                raw[at:at] = data.draw(st.binary(max_size=9))
    path = tmp_path_factory.getbasetemp() / "fuzz-network.params"
    path.write_bytes(bytes(raw))
    try:
        found = tusimple.load(path, num_classes=3)
    except UserError:
        return
    assert all(torch.isfinite(value).all() for value in found.state_dict().values())


def test_the_command_takes_the_number_of_classes_that_the_error_asks_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "file.params", small_network(channels=20 * 16, paths=1))
    arguments = ["import-weights", "tusimple", str(path), "--out", str(tmp_path / "out")]
    assert main(arguments) != 0
    assert "--num-classes N" in capsys.readouterr().err
    assert main([*arguments, "--num-classes", "20"]) == 0
    assert len(ducseg.load(tmp_path / "out").model.classes) == 20
