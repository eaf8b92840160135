"""Networks whose weights are made to grid, or not, and one that is really trained until it does."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ducseg.classes import ClassSet
from ducseg.cli import main
from ducseg.data.files.reading import read_image, read_label
from ducseg.errors import UserError
from ducseg.inference.gridding import measure_gridding
from ducseg.inference.predictor import Predictor
from ducseg.metrics.gridding import GRIDS
from ducseg.models import build
from ducseg.models.segmenter import Segmenter
from ducseg.ops import fold_labels
from ducseg.weights.checkpoint import save_segmenter
from ducseg.weights.encoders import load_encoder


def pictures(count: int = 2, size: tuple[int, int] = (320, 400)) -> list[np.ndarray]:
    """Blots of several sizes."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        layers = [cv2.GaussianBlur(generator.standard_normal((*size, 3)), (0, 0), width) for width in (1, 4, 16)]
        mixed = sum(layer / layer.std() for layer in layers)
        found.append(np.clip(128 + 30 * mixed, 0, 255).astype(np.uint8))
    return found


@torch.no_grad()
def made(head: str, *, grids: bool) -> Segmenter:
    """A ResNet-18 with rates 5 and 9 in res5, whose first block there blurs its 5 x 5 grids, or does nothing."""
    torch.manual_seed(0)
    network = build(encoder="resnet18", width=4, head=head, num_classes=3, aspp=0, dilation="bigger").eval()
    first, second = network.encoder.layer4
    same = torch.zeros(32, 32, 3, 3)
    same[range(32), range(32), 1, 1] = 1
    blurred = torch.where(same.amax((2, 3), keepdim=True) > 0, 1 / 9, 0.0).expand_as(same)
    first.conv1.weight.copy_(torch.eye(32)[:, ::2][:, :16, None, None] * (blurred if grids else same)[:, :16])
    first.conv2.weight.copy_(blurred if grids else same)
    first.downsample[0].weight.zero_()
    for block in (network.encoder.layer3[1], second):
        block.conv2.weight.zero_()
    for path in network.head.paths:
        path.conv.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    return network


@pytest.mark.parametrize("head", ["bilinear", pytest.param("duc", marks=pytest.mark.slow)])
def test_weights_that_grid_are_told_from_weights_that_do_not(head: str) -> None:
    found = {grids: measure_gridding(Predictor(made(head, grids=grids)), pictures()) for grids in (True, False)}
    periods = {grids: {period.pixels: period for period in one.periods} for grids, one in found.items()}
    assert list(periods[True]) == [16, 40, 72]
    assert periods[True][40].rates == ((5, 8),)
    assert periods[True][40].trained > 2 * GRIDS
    assert periods[True][40].grids and found[True].grids
    assert periods[False][40].trained < 1 and not found[False].grids
    assert periods[True][40].fresh == pytest.approx(periods[False][40].fresh)
    assert periods[True][40].share > 0.05 > periods[False][40].share


@pytest.mark.slow
def test_too_few_windows_are_not_judged() -> None:
    """Four periods of 72 pixels are 36 places; 40 x 40 hold four such windows, 32 x 32 none."""
    for side, windows in ((320, 4), (256, 0)):
        found = measure_gridding(Predictor(made("bilinear", grids=False)), pictures(1, (side, side)))
        last = found.periods[-1]
        assert (last.pixels, last.windows, last.judged, last.grids) == (72, windows, False, False)
        assert (last.trained is None) == (windows == 0)


@pytest.mark.slow
def test_pictures_that_hold_the_period_are_no_gridding() -> None:
    rows, columns = np.indices((320, 400)) // 8
    striped = np.where(((rows % 5 == 0) & (columns % 5 == 0))[..., None], 250, pictures(1)[0]).astype(np.uint8)
    found = measure_gridding(Predictor(made("bilinear", grids=False)), [striped], periods=[40]).periods[0]
    assert found.trained > GRIDS
    assert found.pictures > GRIDS and not found.grids


def test_what_cannot_be_measured_is_refused() -> None:
    network = build(encoder="mobilenet_v2", head="pyramid", num_classes=2, output_stride=32, dilation="none", aspp=0)
    with pytest.raises(UserError, match="no dilated convolution"):
        measure_gridding(Predictor(network), pictures(1))
    with pytest.raises(UserError, match="pictures: found none"):
        measure_gridding(Predictor(network), [], periods=[16])
    found = measure_gridding(Predictor(network), pictures(1), periods=[16, 17])
    assert [period.trained is None for period in found.periods] == [False, True]
    assert found.structure.scores is None and found.structure.features is None


@pytest.mark.slow
def test_the_command_warns_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, picture in enumerate(pictures()):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
    given = [str(tmp_path / "0.png"), str(tmp_path / "1.png"), "--device", "cpu"]
    for grids in (True, False):
        checkpoint = tmp_path / f"network-{grids}"
        save_segmenter(checkpoint, made("bilinear", grids=grids))
        wanted = ["--json", str(tmp_path / "found.json"), "--figure", str(tmp_path / "f.pdf")] if grids else []
        assert main(["gridding", str(checkpoint), *given, *wanted]) == grids
        said = capsys.readouterr().out
        assert ("warning: this network grids: its scores repeat every 40 pixels" in said) == grids
        assert ("of the variance). Train with other rates (--model.dilation rf or none)" in said) == grids
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["grids"] is True and found["periods"]["40"]["grids"] is True
    assert found["periods"]["40"]["rates"] == [[5, 8]]
    assert found["coverage"]["scores"]["after"] == "encoder.layer3.0"
    assert found["effective_receptive_field"].keys() == {"trained", "fresh"}
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
@pytest.mark.parametrize(("dilation", "grids"), [("bigger", True), ("none", False)])
def test_a_network_trained_on_vessels_with_large_rates_grids(shared: Path, dilation: str, grids: bool) -> None:
    """A small pretrained encoder, crops of 192 pixels, 20 steps: dots 40 pixels apart, as rate 5 at stride 8 makes."""
    torch.manual_seed(0)
    generator, root = np.random.default_rng(0), shared / "data" / "drive"
    classes = ClassSet.read(root / "classes.json")
    network = build(encoder="mobilenet_v2", num_classes=2, aspp=0, dilation=dilation, classes=classes)
    load_encoder(network, shared / "weights" / "mobilenet_v2-imagenet.safetensors")
    pairs = [
        (read_image(file), read_label(root / "masks" / "train" / f"{file.stem}.png"))
        for file in sorted((root / "images" / "train").iterdir())[:8]
    ]
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    network.train()
    for _ in range(20):
        crops = []
        for image, label in (pairs[index] for index in generator.integers(len(pairs), size=2)):
            top, left = (generator.integers(side - 192) for side in label.shape)
            crops.append((image[top : top + 192, left : left + 192], label[top : top + 192, left : left + 192]))
        images, labels = (torch.tensor(np.stack(kind)) for kind in zip(*crops))
        scores = network.folded(network.preprocessing.normalise(images.permute(0, 3, 1, 2)))
        loss = nn.functional.cross_entropy(scores, fold_labels(labels, network.factor).long(), ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seen = [read_image(file) for file in sorted((root / "images" / "test").iterdir())[:2]]
    found = measure_gridding(Predictor(network), seen, periods=[40]).periods[0]
    assert found.grids == grids, found
    assert found.fresh < 1
