"""Graphs of a segmenter take pictures of any size: traced, and exported with free height and width."""

from typing import Any

import pytest
import torch

from ducseg.models import Segmenter, build
from ducseg.models.heads import COMPARISONS, HEADS

OURS = sorted(HEADS.keys() - COMPARISONS.keys())
SIZES = [(81, 113), (96, 128), (17, 300), (64, 64)]


def small(head: str, cell: int = 1, stride: int = 16) -> Segmenter:
    torch.manual_seed(0)
    dilation = "none" if stride == 32 else "bigger"
    segmenter = build("resnet18", head, 3, stride, cell, 0, dilation, width=4).eval()
    with torch.no_grad():
        for parameter in segmenter.head.parameters():
            parameter.mul_(30)  # scores that differ from pixel to pixel
    return segmenter


def check(graph: Any, segmenter: Segmenter, *, least: int = 1) -> None:
    for height, width in [(max(height, least), width) for height, width in SIZES]:
        images = torch.randn(1, 3, height, width)
        found = graph(images)
        assert found.shape == (1, 3, height, width)
        torch.testing.assert_close(found, segmenter(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("head", "cell", "stride"),
    [*((head, 1, 16) for head in OURS), ("duc", 2, 16), ("duc", 1, 8), ("pyramid", 1, 32), ("duc", 1, 32)],
)
def test_exported_with_free_sizes(head: str, cell: int, stride: int) -> None:
    segmenter = small(head, cell, stride)
    d = segmenter.output_stride
    free = {2: torch.export.Dim("height", min=d + 1), 3: torch.export.Dim("width", min=d + 1)}
    exported = torch.export.export(segmenter, (torch.randn(1, 3, 96, 128),), dynamic_shapes=(free,))
    check(exported.module(), segmenter, least=d + 1)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of numbers of channels, which are constants
@pytest.mark.parametrize("head", COMPARISONS)
def test_a_traced_comparison_network_takes_another_size(head: str) -> None:
    torch.manual_seed(0)
    segmenter = build(COMPARISONS[head].needs.get("encoder", ("resnet18",))[0], head, 3, width=4).eval()
    traced = torch.jit.trace(segmenter, torch.randn(1, 3, 90, 100), check_trace=False)
    check(traced, segmenter)


@torch.no_grad()
@pytest.mark.parametrize(("head", "cell"), [*((head, 1) for head in OURS), ("duc", 2)])
@pytest.mark.parametrize("size", [(96, 128), (90, 100)])
def test_traced_at_one_size_takes_another(head: str, cell: int, size: tuple[int, int]) -> None:
    segmenter = small(head, cell)
    traced = torch.jit.trace(segmenter, torch.randn(1, 3, *size), check_trace=False)
    check(traced, segmenter)
