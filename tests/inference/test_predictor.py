"""The predictor against the segmenter it wraps, and against the average written out."""

import gc
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, current_thread
from typing import Any
from weakref import ref

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from ducseg.data.files.channels import Pixels
from ducseg.data.files.reading import read_image
from ducseg.errors import Said, UserError
from ducseg.inference.predictor import Predictor, as_picture, load_predictor
from ducseg.models import Preprocessing, Segmenter, build

MEAN = (124, 116, 104)
TIMES_30 = 5e-4  # single precision's rounding in another order of sums, with the heads of `small`
VARIANTS: dict[str, dict[str, Any]] = {
    "duc": {"head": "duc"},
    "duc-cell-2": {"head": "duc", "cell": 2},
    "bilinear": {"head": "bilinear"},
    "deconv": {"head": "deconv"},
}


@pytest.fixture(scope="module", params=VARIANTS)
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    return small(**VARIANTS[request.param])


def small(**options: Any) -> Segmenter:
    torch.manual_seed(0)
    preprocessing = Preprocessing(mean=MEAN, std=(58.0, 57.0, 57.0))
    made = build("resnet18", num_classes=5, aspp=0, width=8, preprocessing=preprocessing, **options).eval()
    with torch.no_grad():
        for parameter in made.head.parameters():
            parameter.mul_(30)  # an untrained head says the same everywhere
    return made


def picture(height: int = 37, width: int = 51, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def direct(segmenter: Segmenter, image: NDArray[np.uint8]) -> torch.Tensor:
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        return segmenter.probabilities(segmenter.preprocessing.normalise(pixels))


@pytest.mark.parametrize("size", [(37, 51), (32, 48), (1, 1), (3, 70)])
def test_probabilities_and_labels_are_the_segmenters(segmenter: Segmenter, size: tuple[int, int]) -> None:
    predictor, image = Predictor(segmenter), picture(*size)
    probabilities, labels = predictor.probabilities(image), predictor(image)
    assert (probabilities.shape, probabilities.dtype) == ((5, *size), np.float32)
    assert (labels.shape, labels.dtype) == (size, np.uint8)
    np.testing.assert_allclose(probabilities, direct(segmenter, image)[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    assert np.array_equal(labels, probabilities.argmax(0))
    if min(size) > 30:
        assert len(np.unique(labels)) > 1, "else this test tells nothing"


def test_padding_is_the_mean_colour_right_and_below(segmenter: Segmenter) -> None:
    image = picture(29, 43)
    padded = np.full((32, 48, 3), MEAN, np.uint8)
    padded[:29, :43] = image
    found, expected = Predictor(segmenter).probabilities(image), Predictor(segmenter).probabilities(padded)
    # the last resize of heads with a cell looks up to half a cell beyond the picture, where one of both has an edge
    inside = (slice(None), slice(0, 29 - segmenter.cell), slice(0, 43 - segmenter.cell))
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)


def test_scales_and_flip_average_probabilities(segmenter: Segmenter) -> None:
    image = picture()
    height, width = image.shape[:2]
    total = torch.zeros(5, height, width)
    for scale in (0.5, 1.0, 1.75):
        size = (round(width * scale), round(height * scale))
        scaled = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        for mirror in (False, True):
            found = direct(segmenter, np.ascontiguousarray(scaled[:, ::-1]) if mirror else scaled)
            found = found.flip(-1) if mirror else found
            total += F.interpolate(found, (height, width), mode="bilinear", align_corners=False)[0]
    predictor = Predictor(segmenter, scales=(0.5, 1.0, 1.75), flip=True)
    probabilities = predictor.probabilities(image)
    np.testing.assert_allclose(probabilities, (total / 6).numpy(), atol=1e-5)
    assert np.array_equal(predictor(image), probabilities.argmax(0))
    plain = Predictor(segmenter).probabilities(image)
    for options in ({"flip": True}, {"scales": (1.5,)}, {"scales": (1.0, 1.5)}, {"bf16": True}):
        assert not np.array_equal(Predictor(segmenter, **options).probabilities(image), plain), options


def test_flip_makes_the_answer_mirror_with_the_picture() -> None:
    predictor, image = Predictor(small(), flip=True), picture(32, 48)
    mirrored = predictor.probabilities(image[:, ::-1])[..., ::-1]
    np.testing.assert_allclose(predictor.probabilities(image), mirrored, atol=1e-6)


def test_tiny_scales_of_tiny_pictures() -> None:
    assert Predictor(small(), scales=(0.1, 1.0))(picture(2, 3)).shape == (2, 3)


def test_without_bf16_labels_are_float32s(no_bf16: None) -> None:
    network, image = small(), picture()
    with pytest.warns(Said, match="float32 in place of bfloat16"):
        predictor = Predictor(network, bf16=True, fused=True)
    assert not predictor.bf16
    np.testing.assert_array_equal(predictor.probabilities(image), Predictor(network, fused=True).probabilities(image))


def test_bf16_is_close() -> None:
    image, network = picture(), small()
    exact, rough = (Predictor(network, bf16=bf16).probabilities(image) for bf16 in (False, True))
    np.testing.assert_allclose(exact, rough, atol=0.1)
    assert (Predictor(network, bf16=True)(image) == exact.argmax(0)).mean() > 0.95


@pytest.mark.parametrize("options", [{}, {"scales": (0.5, 1.25), "flip": True}], ids=["plain", "averaged"])
def test_pictures_of_one_size_go_at_once(segmenter: Segmenter, options: dict[str, Any]) -> None:
    predictor, images = Predictor(segmenter, **options), [picture(seed=seed) for seed in range(3)]
    for image, labels, probabilities in zip(images, predictor.labels_of(images), predictor.probabilities_of(images)):
        np.testing.assert_allclose(probabilities, predictor.probabilities(image), atol=TIMES_30)
        assert np.mean(labels == predictor(image)) > 0.999, "a tie may fall the other way"
    with pytest.raises(UserError, match="37 x 51, 8 x 9; needed one size"):
        predictor.whole_probabilities_of([images[0], picture(8, 9)])
    with pytest.raises(UserError, match="no picture"):
        predictor.labels_of([])


@pytest.mark.parametrize("options", [{}, {"tile": 32}], ids=str)
def test_pictures_of_several_sizes_come_back_in_their_order(segmenter: Segmenter, options: dict[str, Any]) -> None:
    predictor = Predictor(segmenter, **options)
    images = [picture(), picture(8, 9), picture(seed=1), picture(8, 9, seed=2)]
    labels, probabilities = predictor.labels_of(images), predictor.probabilities_of(images)
    for image, *found, both in zip(images, labels, probabilities, predictor.labels_and_probabilities_of(images)):
        assert np.mean(found[0] == predictor(image)) > 0.999, "a tie may fall the other way"
        np.testing.assert_allclose(found[1], predictor.probabilities(image), atol=TIMES_30)
        assert all(map(np.array_equal, found, both))


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"bf16": True}, {"tile": 32}], ids=str)
def test_both_of_one_pass(segmenter: Segmenter, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, images, passes = Predictor(segmenter, **options), [picture(), picture(seed=1)], []
    labels, probabilities = predictor.labels_of(images), predictor.probabilities_of(images)
    folded = segmenter.folded
    monkeypatch.setattr(segmenter, "folded", lambda given: passes.append(len(given)) or folded(given))
    for found, *expected in zip(predictor.labels_and_probabilities_of(images), labels, probabilities):
        assert all(map(np.array_equal, found, expected))
    if "tile" not in options:
        assert passes == [2] * (1 + predictor.flip), "the network is asked once"


def test_folded_batch_norms_change_nothing_but_the_time(segmenter: Segmenter) -> None:
    with torch.no_grad():
        for module in segmenter.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    plain, fused, image = Predictor(segmenter), Predictor(segmenter, fused=True), picture()
    np.testing.assert_allclose(fused.probabilities(image), plain.probabilities(image), atol=TIMES_30)
    assert np.mean(fused(image) == plain(image)) > 0.999
    assert fused.model is segmenter
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in segmenter.modules())
    norms = [module for module in fused._network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    kernels = [module.weight for module in fused._network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert not norms
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_weights_in_bfloat16_give_what_autocast_gives(segmenter: Segmenter) -> None:
    predictor, image = Predictor(segmenter, fused=True, bf16=True), picture()
    kernels = [module.weight for module in predictor._network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert {kernel.dtype for kernel in kernels} == {torch.bfloat16}
    found = predictor.probabilities(image)
    predictor._network = Predictor(segmenter, fused=True)._network
    np.testing.assert_array_equal(found, predictor.probabilities(image))
    assert {parameter.dtype for parameter in segmenter.parameters()} == {torch.float32}


def test_of_calls_that_overlap_the_last_restores_the_modes() -> None:
    """As threads do: the first to leave does not put the network back under the second, nor the second leave it so."""
    network = build("resnet18", "bilinear", 3, aspp=0, width=8)
    network.encoder.eval()
    modes = [module.training for module in network.modules()]
    inside, leave = ({name: Event() for name in "ab"} for _ in range(2))

    def wait(*_: object) -> None:
        name = current_thread().name
        inside[name].set()
        leave[name].wait(30)

    network.encoder.register_forward_pre_hook(wait)
    threads = {name: Thread(target=Predictor(network), args=(picture(),), name=name) for name in "ab"}
    for name, thread in threads.items():
        thread.start()
        assert inside[name].wait(30)
    leave["a"].set()
    threads["a"].join()
    assert not any(module.training for module in network.modules())
    leave["b"].set()
    threads["b"].join()
    assert [module.training for module in network.modules()] == modes
    to_network = ref(network)
    del network, threads, thread
    gc.collect()
    assert to_network() is None, "nothing holds a network that is no longer used"


def test_modes_gradients_and_statistics_are_left_as_they_were() -> None:
    network = small()
    network.train()
    network.encoder.layer1.eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    predictor, image = Predictor(network), picture()
    first = predictor(image)
    assert np.array_equal(first, predictor(image)), "batch statistics would drift"
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with pytest.raises(UserError):
        predictor(image.astype(float))
    assert [module.training for module in network.modules()] == modes
    assert np.array_equal(first, Predictor(network.eval())(image))
    assert predictor.model is network


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: Image.fromarray(image),
        lambda image: np.flip(np.flip(image, 1).copy(), 1),
        lambda image: np.asfortranarray(image),
        lambda image: np.asarray(Image.fromarray(image)),
        lambda image: torch.from_numpy(image),
    ],
    ids=["pil", "negative-strides", "fortran", "read-only", "torch"],
)
def test_the_same_picture_in_other_clothes(convert: Callable[[NDArray[np.uint8]], Any]) -> None:
    predictor, image = Predictor(small()), picture()
    assert np.array_equal(predictor(convert(image)), predictor(image))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_pictures_one_pixel_high_or_wide_turned_round(axis: int, flip: bool) -> None:
    predictor, image = Predictor(small(), flip=flip), np.take(picture(), [3], axis)
    turned = np.flip(image, axis)
    assert turned.strides[axis] < 0 and np.array_equal(predictor(turned), predictor(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_a_pil_image_of_another_mode_is_taken_as_rgb(mode: str) -> None:
    image = Image.fromarray(cv2.GaussianBlur(picture(), (0, 0), 9)).convert(mode)
    assert np.array_equal(as_picture(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["P", "PA", "LA", "RGBA", "L", "1"])
def test_a_pil_image_is_what_its_file_is(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(picture()).convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    image.save(tmp_path / ("x.png" if mode != "PA" else "x.tif"))
    assert np.array_equal(as_picture(image), read_image(tmp_path / ("x.png" if mode != "PA" else "x.tif")))


def test_a_pil_image_of_more_bits_or_of_indices_is_refused() -> None:
    for mode in ("I", "F", "I;16"):
        with pytest.raises(UserError, match=f"found a PIL image of mode {mode} .*8 bits"):
            as_picture(Image.new(mode, (5, 4)))
    with pytest.raises(UserError, match="found uint8"):  # a palette's indices are no grey
        as_picture(Image.new("P", (5, 4)), Pixels(1, "uint8"))
    assert as_picture(Image.new("I;16", (5, 4)), Pixels(1, "uint16")).shape == (4, 5, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_weights_that_are_not_float32_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UserError, match=rf"segmenter: found weights of {dtype}; .*bf16=True"):
        Predictor(small().to(dtype))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 5, 3), np.float32), ["float32 (4, 5, 3)", "* 255"]),
        (np.zeros((4, 5, 3), np.uint16), ["uint16", "astype"]),
        (np.zeros((4, 5, 3), bool), ["bool"]),
        (np.zeros((4, 5), np.uint8), ["(4, 5)", "grey", "convert('RGB')"]),
        (np.zeros((4, 5, 1), np.uint8), ["grey"]),
        (np.zeros((4, 5, 4), np.uint8), ["alpha", "[:, :, :3]"]),
        (np.zeros((3, 4, 5), np.uint8), ["channels first", "transpose(1, 2, 0)"]),
        (np.zeros((1, 4, 5, 3), np.uint8), ["batch", "one picture at a time", "labels_of"]),
        (
            np.zeros((0, 5, 3), np.uint8),
            ["(0, 5, 3)", "not empty", "That is empty: look at how it was read or cut out."],
        ),
        (None, ["found NoneType None", "imread"]),
        ("street.png", ["found str 'street.png'", "imread"]),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), ["image.cpu().numpy().transpose(1, 2, 0)"]),
        (torch.zeros(4, 5, 3, requires_grad=True), ["float32 (4, 5, 3)", "(image.cpu().numpy() * 255).round()"]),
    ],
)
def test_what_is_no_picture_is_refused_with_the_way_out(image: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        as_picture(image)
    assert all(word in str(caught.value) for word in [*words, "RGB uint8 (H, W, 3)"]), caught.value


def test_bad_options_are_refused() -> None:
    network = small()
    for scales in ((), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),), 1.0, ("a",), (None,), None, "a"):
        with pytest.raises(UserError, match="scales"):
            Predictor(network, scales=scales)
    with pytest.raises(UserError, match=r"device: found graphics .*Try \"cpu\""):
        Predictor(network, "graphics")
    for device in (None, "meta", 1.5, []):
        with pytest.raises(UserError, match=r"device: found .*Try \"cpu\""):
            Predictor(network, device)  # type: ignore[arg-type]
    assert all(weights.device.type == "cpu" for weights in network.parameters())
    with pytest.raises(UserError, match=r"checkpoint: found None; needed a path"):
        load_predictor(None)  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device: found cuda"):
            Predictor(network, "cuda")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("x: can't allocate memory: y"),
        RuntimeError("can't allocate read lock"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_is_said_in_words(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_images: torch.Tensor) -> torch.Tensor:
        raise error

    network = small()
    monkeypatch.setattr(network, "predict_labels", fail)
    with pytest.raises(UserError, match=r"37 x 51 pixels.*on cpu.*--scales 0\.5"):
        Predictor(network)(picture())


@pytest.mark.parametrize("scale", [1e6, 1e8, 1e300])
def test_a_scale_beyond_all_memory_is_said_in_words(scale: float) -> None:
    with pytest.raises(UserError, match=r"37 x 51 pixels.*--scales"):
        Predictor(small(), scales=(scale,))(picture())


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a defect")

    network = small()
    monkeypatch.setattr(network, "predict_labels", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        Predictor(network)(picture())
