"""Coverage of networks as they are built, against undefined numbers put at each place in turn."""

import numpy as np
import pytest
import torch
from torch import nn

from ducseg.errors import UserError
from ducseg.models import build
from ducseg.ops.hdc import coverage
from ducseg.ops.network_coverage import Dilated, coverage_by_block, dilated_layers, network_coverage
from ducseg.ops.receptive_field import effective, measured, paths, side_of


class Block(nn.Module):
    """A residual block of one dilated convolution between two 1x1s."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1)
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=rate, dilation=rate), nn.BatchNorm2d(3)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return (grid + self.wide(self.norm(self.conv(self.narrow(grid).relu())))).relu()


class Parallel(nn.Module):
    """ASPP: the sum of dilated convolutions."""

    def __init__(self, *rates: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=rate, dilation=rate) for rate in rates)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return sum(path(grid) for path in self.paths)


def network(*rest: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 2, 3, 4, padding=1), nn.BatchNorm2d(2), *rest)


def reached(dilated_part: nn.Module, side: int) -> np.ndarray:
    """By undefined numbers at each place of a map in turn, cut to what is reached."""
    maps = torch.ones(side * side, 2, side, side, dtype=torch.float32)
    maps.view(side * side, 2, -1)[range(side * side), 0, range(side * side)] = torch.nan
    with torch.no_grad():
        outputs = dilated_part.eval()(maps)
    found = outputs[:, :, side // 2, side // 2].isnan().any(1).view(side, side).numpy()
    rows, columns = (np.flatnonzero(found.any(axis)) for axis in (1, 0))
    return found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize(
    "part",
    [
        [Block(2), Block(2)],
        [Block(2), Block(3), Block(4)],
        [Block(3), nn.Conv2d(2, 2, 3, padding=1), Block(3)],
        [Block(4), Parallel(2, 5)],
        [Parallel(3, 6)],
    ],
)
def test_paths_lead_where_undefined_numbers_come_from(part: list[nn.Module]) -> None:
    whole = network(*part)
    found = network_coverage(whole)
    assert found is not None
    assert (found.after, found.stride) == ("1", 4)
    expected = reached(nn.Sequential(*part), 21)
    assert np.array_equal(found.paths > 0, expected)
    assert found.holes == (~expected).sum()
    assert found.covered_fraction == expected.mean()
    assert found.paths.sum() == pytest.approx(1)


def test_a_chain_has_as_many_paths_as_equation_says() -> None:
    rates = [2, 1, 3]
    chain = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=rate, dilation=rate) for rate in rates))
    counts = coverage(rates)
    found = paths(chain, counts.shape, channels=1)
    assert np.allclose(found, counts / counts.sum())


def test_the_part_before_the_first_rate_is_left_out_and_the_network_stays() -> None:
    whole = network(Block(1), Block(2), Block(2)).train()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    found = network_coverage(whole)
    assert found is not None and found.after == "2"
    assert dilated_layers(whole) == [Dilated(name=f"{index}.conv", rate=2, stride=4) for index in (3, 4)]
    assert dilated_layers(whole)[0].period == 8
    assert whole.training and all(torch.equal(before[name], value) for name, value in whole.state_dict().items())
    assert all(parameter.requires_grad for parameter in whole.parameters())


def test_later_blocks_see_less_and_each_ends_a_block() -> None:
    whole = network(Block(2), nn.Sequential(Block(3), Block(4)), Parallel(5))
    found = coverage_by_block(whole, most=9)
    assert [(one.after, len(one.paths)) for one in found] == [("1", 29), ("2", 25), ("3.0", 19), ("3", 11)]
    assert np.array_equal(found[1].paths > 0, reached(nn.Sequential(*list(whole)[3:]), 27))
    assert [one.after for one in coverage_by_block(whole, most=2)] == ["1", "3.0"]


class Squeezed(Block):
    """With squeeze-and-excitation."""

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        scale = grid.mean((2, 3), keepdim=True).sigmoid()
        return super().forward(grid * scale) + nn.functional.adaptive_avg_pool2d(grid, 1)


class Efficient(Block):
    """With a scale that a convolution along the channels makes, as ECA has it."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.along = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        scale = self.along(grid.mean((2, 3)).unsqueeze(1)).sigmoid()
        return super().forward(grid * scale.view(len(grid), -1, 1, 1).expand_as(grid))


@pytest.mark.parametrize("kind", [Squeezed, Efficient])
def test_scales_from_a_global_mean_fill_no_hole(kind: type[Block]) -> None:
    plain, squeezed = (network_coverage(network(block(3), block(6))) for block in (Block, kind))
    assert plain is not None and squeezed is not None and squeezed.after == plain.after == "1"
    assert squeezed.holes == plain.holes > 0 and np.array_equal(squeezed.paths > 0, plain.paths > 0)


class InADictionary(nn.Sequential):
    """As torchvision's segmentation models answer."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.name: super().forward(images)}


def test_of_a_dictionary_out_is_looked_at() -> None:
    whole = InADictionary(*network(Block(3)))
    whole.name = "out"
    found, expected = network_coverage(whole), network_coverage(network(Block(3)))
    assert found is not None and expected is not None and np.array_equal(found.paths > 0, expected.paths > 0)
    assert dilated_layers(whole) == dilated_layers(network(Block(3)))
    whole.name = "main"
    with pytest.raises(UserError, match="output of the network: found a dictionary of 'main'; needed"):
        network_coverage(whole)


def test_nothing_dilated_has_no_coverage_to_count() -> None:
    assert network_coverage(network(Block(1))) is None
    assert dilated_layers(network(Block(1))) == []


SCHEDULED = [("resnet50", "dilated", 0.26), ("mobilenet_v2", "rf", 1)]


@pytest.mark.parametrize(("encoder", "dilation", "covered"), SCHEDULED)
def test_the_papers_schedules_in_real_encoders(encoder: str, dilation: str, covered: float) -> None:
    """Rates of 2 and 4 alone see a quarter of their field, shortcuts or not; hybrid ones all of it."""
    width = 64 if encoder == "mobilenet_v2" else 4
    built = build(encoder=encoder, head="bilinear", dilation=dilation, aspp=0, width=width)
    found = network_coverage(built.encoder)
    assert found is not None and found.stride == 8
    assert found.covered_fraction == pytest.approx(covered, abs=0.01)


def test_clipping_hides_no_connection() -> None:
    """Sums of shortcuts exceed 6, where ReLU6's gradient ends."""
    encoder = build(encoder="mobilenet_v2", head="bilinear", output_stride=32, dilation="none", aspp=0).encoder
    assert measured(encoder, (64, 64)).all()


def test_the_effective_field_is_the_kernel_of_a_linear_network() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 1, 3, padding=2, dilation=2, bias=False)
    found = effective(conv, torch.randn(2, 1, 9, 9), draws=2)
    kernel = conv.weight[0, 0].abs().detach().numpy()
    assert np.allclose(found[2:7:2, 2:7:2], kernel / kernel.sum(), atol=1e-6)
    assert found.sum() == pytest.approx(1) and (found > 0).sum() == 9
    assert conv.weight.requires_grad
    assert side_of(found) == 5 and side_of(np.eye(1)) == 1
