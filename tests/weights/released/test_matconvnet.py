"""LRR-4x's .mat files, made with the released names and shapes (Cityscapes': 19 classes) at width 1, and others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ducseg.errors import UserError
from ducseg.models import build
from ducseg.weights.checkpoint import load_segmenter
from ducseg.weights.released.importing import import_file
from ducseg.weights.released.matconvnet import load

scipy_io = pytest.importorskip("scipy.io")

MEAN = [73.1652, 82.9206, 72.4080]

Arrays = dict[str, NDArray[np.float32]]


def released_shapes(width: int, classes: int) -> dict[str, tuple[int, ...]]:
    """As D-Nilsson/GRFP lists the Cityscapes network's (width 64, 19 classes), written out."""
    w, k = width, classes
    convolutions = {
        "conv1_1": (3, w), "conv1_2": (w, w), "conv2_1": (w, 2 * w), "conv2_2": (2 * w, 2 * w),
        "conv3_1": (2 * w, 4 * w), "conv3_2": (4 * w, 4 * w), "conv3_3": (4 * w, 4 * w),
        "conv4_1": (4 * w, 8 * w), "conv4_2": (8 * w, 8 * w), "conv4_3": (8 * w, 8 * w),
        "conv5_1": (8 * w, 8 * w), "conv5_2": (8 * w, 8 * w), "conv5_3": (8 * w, 8 * w),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {f"{name}f": (3, 3, *sides) for name, sides in convolutions.items()}
    shapes |= {f"{name}b": (sides[1],) for name, sides in convolutions.items()}
    shapes |= {"fc6f": (7, 7, 8 * w, 64 * w), "fc6b": (64 * w,), "fc7f": (1, 1, 64 * w, 64 * w), "fc7b": (64 * w,)}
    for names, channels in (
        (("bases_coef_32xf", "bases_coef_32xb", "deconv_32xf"), 64 * w),
        (("bases_coef_16sf", "bases_coef_16xb", "deconv_16xf"), 8 * w),
        (("bases_coef_8xf", "bases_coef_8xb", "deconv_8xf"), 8 * w),
        (("bases_coef_4xf", "bases_coef_4xb", "deconv_4xf"), 4 * w),
        (("dil_seg32x_coeff", "dil_seg32x_coefb", "dil_seg_deconv_32xf"), 64 * w),
        (("ero_mask32s_coeff", "ero_seg32x_coefb", "ero_seg_deconv_32xf"), 64 * w),
    ):
        shapes |= dict(zip(names, ((5, 5, channels, 10 * k), (10 * k,), (8, 8, 1, 10 * k))))
    shapes |= {f"dec_prediction_{s}x_bil_x2f": (4, 4, 1, k) for s in (32, 16, 8)}
    return shapes | {"dil_mask_deconv32sb": (k,), "ero_mask_deconv32sb": (k,)}


def arrays(width: int = 1, classes: int = 19) -> Arrays:
    random = np.random.default_rng(0)
    return {
        name: random.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in released_shapes(width, classes).items()
    }


def write(path: Path, values: Arrays, *, mean: Any = MEAN, compress: bool = False) -> Path:
    params = np.empty((1, len(values)), dtype=[(key, object) for key in ("name", "value", "learningRate")])
    for index, (name, value) in enumerate(values.items()):
        params[0, index] = (name, value, np.float32(1))
    net = {"layers": np.zeros((0, 0)), "params": params, "meta": {"normalization": {"rgbMean": np.array([mean]).T}}}
    scipy_io.savemat(path, {"net": net, "info": "beside"}, do_compression=compress, oned_as="row")
    return path


def test_every_array_is_in_its_place(tmp_path: Path) -> None:
    given_arrays = arrays()
    found = load(write(tmp_path / "model.mat", given_arrays))
    assert not found.training and found.preprocessing.mean == pytest.approx(MEAN) and found.head.fitted
    assert found.classes.names[0] == "road" and found.architecture == build("vgg16", "lrr4x", 19, width=1).architecture
    own = {name: tensor.numpy() for name, tensor in found.state_dict().items() if name != "head.fitted"}
    assert len(own) == len(given_arrays)
    for ours, theirs, (row, column) in (
        ("encoder.features.0.weight", "conv1_1f", (0, 2)),
        ("encoder.features.28.weight", "conv5_3f", (7, 3)),
        ("head.classifier.fc6.weight", "fc6f", (9, 4)),
        ("head.levels.8.bases", "deconv_8xf", (25, 0)),
        ("head.levels.16.coefficients.weight", "bases_coef_16sf", (33, 5)),
        ("head.doublings.16.kernel", "dec_prediction_16x_bil_x2f", (3, 0)),
        ("head.dilation.coefficients.weight", "dil_seg32x_coeff", (1, 2)),
        ("head.erosion.bases", "ero_seg_deconv_32xf", (189, 0)),
    ):
        np.testing.assert_array_equal(own[ours][row, column], given_arrays[theirs][:, :, column, row])
    np.testing.assert_array_equal(own["head.erosion.bias"], given_arrays["ero_mask_deconv32sb"])
    assert found.predict_labels(torch.randn(1, 3, 40, 50)).shape == (1, 40, 50)


def test_compressed_and_of_one_class(tmp_path: Path) -> None:
    found = load(write(tmp_path / "model.mat", arrays(classes=1), compress=True))
    assert found.architecture.num_classes == 1 and found.classes.names == ("class0",)
    voc = write(tmp_path / "voc.mat", arrays(classes=21))
    assert "21 classes (background, " in import_file("lrr4x", voc, tmp_path / "voc")
    assert torch.equal(load_segmenter(tmp_path / "voc").head.erosion.bases, load(voc).head.erosion.bases)
    with pytest.raises(UserError, match="--num-classes 4"):
        load(voc, num_classes=4)


def without(name: str) -> Arrays:
    return {key: value for key, value in arrays(classes=2).items() if key != name}


@pytest.mark.parametrize(
    ("values", "mean", "part"),
    [
        (without("fc6f"), MEAN, "no fc6f"),
        (without("deconv_4xf") | {"deconv_4xf": np.zeros((8, 8, 1, 19), np.float32)}, MEAN, "deconv_4xf of shape"),
        (without("conv2_1b") | {"conv2_1b": np.full(2, np.nan, np.float32)}, MEAN, "undefined numbers"),
        (without("fc7b") | {"fc7b": "text"}, MEAN, "class 4, where numbers"),
        (without("bases_coef_32xf") | {"bases_coef_32xf": np.zeros((5, 5, 64, 4), np.float32)}, MEAN, "0 classes"),
        (arrays(classes=2), MEAN[:2], "mean colour of 2 values"),
        ({"x": np.zeros(3, np.float32)}, MEAN, "no bases_coef_16xb"),
    ],
)
def test_other_networks_are_named(tmp_path: Path, values: Arrays, mean: list[float], part: str) -> None:
    with pytest.raises(UserError, match=part):
        load(write(tmp_path / "model.mat", values, mean=mean))


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "model.mat"
    scipy_io.savemat(path, {"other": np.zeros(3)})
    with pytest.raises(UserError, match="no variable net"):
        load(path)
    for content, part in (
        (b"\x89HDF" + bytes(200), "MATLAB 7.3"),
        (bytes(124) + b"\x00\x02IM" + bytes(400), "MATLAB 7.3"),
        (b"nothing", "announced"),
        (bytes(300), "without MATLAB's header"),
        (bytes(124) + b"\x00\x01IM" + b"\x0e\x00\x00\x00\xff\xff\x00\x00", "announced"),
        (bytes(124) + b"\x00\x01IM" + b"\x07\x00\x00\x00\x04\x00\x00\x00abcd", "kind 7"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=part):
            load(path)
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.mat")
