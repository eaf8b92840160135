"""Rates for any module's convolutions; stride to dilation in any chain: the new features hold the old ones."""

import copy
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from ducseg.errors import UserError
from ducseg.ops.dilate import set_dilations, strides_to_dilations
from ducseg.ops.spatial_layers import spatial_layers


@st.composite
def layer(draw: st.DrawFn) -> nn.Module:
    stride = draw(st.sampled_from([1, 2]))
    kernel = draw(st.sampled_from([1, 3, 5] if stride == 1 else [2, 3, 4, 5]))
    padding = (kernel - 1) // 2
    kind = draw(st.sampled_from(["convolution", "depthwise", "maximum", "average", "average of what is inside"]))
    if kind == "maximum":
        return nn.MaxPool2d(kernel, stride, padding)
    if kind.startswith("average"):
        return nn.AvgPool2d(kernel, stride, padding, count_include_pad=kind == "average")
    groups = 4 if kind == "depthwise" else 1
    return nn.Conv2d(4, 4, kernel, stride, padding, groups=groups, bias=draw(st.booleans()))


def network(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1), *layers).double()


@torch.no_grad()
@settings(max_examples=30)
@given(st.lists(layer(), min_size=1, max_size=6), st.sampled_from([2, 4, 8]))
def test_old_features_are_among_the_new_ones(layers: list[nn.Module], output_stride: int) -> None:
    chain = network(*layers)
    old_stride = 2 ** (1 + sum(getattr(one, "stride", 1) in (2, (2, 2)) for one in layers))
    if old_stride > 32:
        return
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    old = chain(images)
    strides_to_dilations(chain, output_stride)
    new = chain(images)
    step = max(1, old_stride // output_stride)
    assert new.shape[-2:] == (64 * step // old_stride, 96 * step // old_stride)
    torch.testing.assert_close(new[..., ::step, ::step], old, rtol=1e-10, atol=1e-12)


def test_a_given_rate_takes_the_place_of_the_rules_also_where_the_stride_stays() -> None:
    chain = network(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    strides_to_dilations(chain, 2, {"1": 3, "2": 5, "3": 1})
    assert [conv.dilation for conv in chain] == [(1, 1), (3, 3), (5, 5), (1, 1)]
    assert chain(torch.zeros(1, 3, 64, 96, dtype=torch.float64)).shape[-2:] == (32, 48)
    kept = network(nn.Conv2d(4, 4, 3, 2, padding=1))
    strides_to_dilations(kept, 4, {"1": 9})
    assert kept[1].stride == (2, 2) and kept[1].dilation == (9, 9) and kept[1].padding == (9, 9)
    assert kept(torch.zeros(1, 3, 64, 96, dtype=torch.float64)).shape[-2:] == (16, 24)


def test_looking_at_a_network_changes_nothing() -> None:
    chain = network(nn.BatchNorm2d(4), nn.Dropout(0.5))
    chain[1].eval()
    before = {key: value.clone() for key, value in chain.state_dict().items()}
    random_state = torch.get_rng_state()
    spatial_layers(chain)
    assert chain.training and not chain[1].training and chain[2].training
    assert all(torch.equal(value, before[key]) for key, value in chain.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert not chain[0]._forward_hooks


def test_layers_in_the_order_in_which_they_run() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(4, 4, 3, padding=1)
            self.unused = nn.Conv2d(4, 4, 3, padding=1)
            self.first = nn.Conv2d(3, 4, 4, 4)
            self.gate = nn.Conv2d(4, 4, 1)

        def forward(self, images: Tensor) -> Tensor:
            grid = self.last(self.first(images))
            return grid * self.gate(grid.mean((2, 3), keepdim=True))

    network = Backwards()
    found = spatial_layers(network)
    assert [(one.name, one.stride_in, one.stride_out) for one in found] == [("first", 1, 4), ("last", 4, 4)]
    with pytest.raises(UserError, match=r"first \(its stride leads from 1 to 4 at once\)"):
        strides_to_dilations(network, 2, layers=found)


def in_other_words(**values: Any) -> Any:
    return lambda chain: [replace(spatial_layers(chain)[0], **values)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: 5, "^layers: found int; needed a list of SpatialLayer"),
        (lambda chain: iter(spatial_layers(chain)), "^layers: found .*iterator"),
        (lambda _: ["0", "2"], r"^layers\[0\]: found '0'; needed a SpatialLayer"),
        (lambda chain: spatial_layers(copy.deepcopy(chain)), r"^layers\[0\] '0': found a Conv2d that is not there"),
        (in_other_words(name="stem"), "'stem': found a Conv2d that is not there"),
        (in_other_words(name="1", module=nn.ReLU()), "'1': found a ReLU that is not there"),
        (lambda chain: spatial_layers(chain) * 2, r"^layers\[2\] '0': found a layer that stands there before"),
        (in_other_words(stride_in=None), "'0': stride_in: found None; needed a whole number not below 1"),
        (in_other_words(stride_in=0), "'0': stride_in: found 0"),
        (in_other_words(stride_out=2.0), "'0': stride_out: found 2.0"),
        (in_other_words(stride_out=1), "'0': stride_out: found 1; needed 1 times its own stride, 2 x 2"),
        (in_other_words(stride_out=8), "'0': stride_out: found 8"),
        (in_other_words(first_tap=1), r"'0': first_tap: found 1; needed \(rows, columns\)"),
        (in_other_words(first_tap=(1, -1)), "'0': first_tap: found -1"),
    ],
)
def test_layers_that_are_not_the_networks_are_refused_and_nothing_changes(make: Any, message: str) -> None:
    chain = network(nn.ReLU(), nn.Conv2d(4, 4, 3, 2, padding=1))
    layers, before = make(chain), repr(chain)
    with pytest.raises(UserError, match=message):
        strides_to_dilations(chain, 2, layers=layers)
    assert repr(chain) == before


def test_layers_of_before_the_strides_went_are_refused() -> None:
    chain = network(nn.Conv2d(4, 4, 3, 2, padding=1), nn.MaxPool2d(2))
    layers = spatial_layers(chain)
    strides_to_dilations(chain, 2, layers=layers)
    with pytest.raises(UserError, match="'1': stride_out: found 4; needed 2 times its own stride, 1 x 1"):
        strides_to_dilations(chain, 1, layers=layers)


class Calls(nn.Module):
    """A layer that computes what `function` says."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, grid: Tensor) -> Tensor:
        return self.function(grid)  # type: ignore[operator]


def attend(grid: Tensor) -> Tensor:
    places = grid.flatten(2)
    return torch.bmm(places, torch.bmm(places.mT, places).softmax(1)).view_as(grid)


shared_convolution = nn.Conv2d(4, 4, 3, padding=1)

REFUSED: list[tuple[list[nn.Module], str]] = [
    ([Calls(attend)], r"attention \(2 times\)"),
    ([Calls(lambda grid: F.interpolate(grid, scale_factor=2.0))], r"resizing \(1 times\)"),
    ([nn.ConvTranspose2d(4, 4, 2, 2)], r"finer by transposed convolutions \(1 times\); .*encoder alone"),
    ([Calls(lambda grid: grid.roll(1, 2))], "shifted windows"),
    ([Calls(lambda grid: F.avg_pool2d(grid, 2))], r"not torch's modules, such as 1 \(Calls\)"),
    ([Calls(lambda grid: F.conv2d(grid, torch.ones(4, 4, 3, 3).double(), padding=1))], "not torch's modules"),
    ([Calls(lambda grid: grid[..., ::2, ::2])], r"neither a convolution's nor a pooling's: 1 \(Calls\)"),
    ([nn.Conv2d(4, 4, 3)], r"1 runs on a grid that is no exact fraction"),
    ([shared_convolution, nn.MaxPool2d(2), shared_convolution], "1 runs at several strides"),
    ([nn.Conv2d(9, 4, 3)], "does not run on 64 x 96 pixels"),
]


@pytest.mark.parametrize(("layers", "reason"), REFUSED)
def test_what_cannot_be_turned_is_refused_with_the_reason(layers: list[nn.Module], reason: str) -> None:
    chain = nn.Sequential(OrderedDict((str(index), one) for index, one in enumerate(network(*layers)))).double()
    with pytest.raises(UserError, match=reason):
        spatial_layers(chain)


@pytest.mark.parametrize(
    ("strided", "reason"),
    [
        (nn.Conv2d(4, 4, 3, 2, padding=1, padding_mode="reflect"), "1 .padding mode reflect"),
        (nn.AvgPool2d(2, divisor_override=3), "a divisor of its own"),
    ],
)
def test_a_layer_that_cannot_be_dilated_is_named_and_nothing_changes(strided: nn.Module, reason: str) -> None:
    chain = network(strided, nn.Conv2d(4, 4, 3, 2, padding=1))
    with pytest.raises(UserError, match=reason):
        strides_to_dilations(chain, 2)
    assert type(chain[1]) is type(strided) and chain[2].stride == (2, 2)


class Strided(nn.Module):
    """Convolutions, and a stride in its own forward."""

    def __init__(self, stride: object, channels: int = 4) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 4, 3, 2, padding=1), nn.MaxPool2d(2)
        self.narrow, self.last = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.narrow(self.stride(self.pool(self.stem(images)))))  # type: ignore[operator]


class LateStride(Strided):
    """The slice is the last thing."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[..., ::2, ::2]


class Shortcut(Strided):
    """A sliced shortcut around a strided layer, as small ResNets for CIFAR have it."""

    def forward(self, images: Tensor) -> Tensor:
        grid = self.narrow(self.stem(images))
        return self.last(self.pool(grid) + grid[:, :, ::2, ::2])


def to_depth(grid: Tensor) -> Tensor:
    number, channels, height, width = grid.shape
    blocks = grid.reshape(number, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(number, 4 * channels, height // 2, width // 2)


@pytest.mark.parametrize(
    ("strided", "output_stride"),
    [
        (Strided(lambda grid: grid[:, :, ::2, ::2]), 4),
        (Strided(lambda grid: grid[:, :, ::2, ::2]), 2),
        (Strided(to_depth, 16), 4),
        (Strided(to_depth, 16), 2),
        (LateStride(lambda grid: grid), 2),
        (Shortcut(None), 2),
    ],
)
def test_a_stride_that_no_layer_makes_is_refused_and_the_network_stays(strided: nn.Module, output_stride: int) -> None:
    before, modules = repr(strided), list(strided.modules())
    images = torch.randn(1, 3, 64, 96)
    old = strided(images)
    with pytest.raises(UserError, match=f"output stride {output_stride}: found a .*make it a layer"):
        strides_to_dilations(strided, output_stride)
    assert repr(strided) == before and all(one is other for one, other in zip(modules, strided.modules()))
    assert torch.equal(strided(images), old) and strided.training


def test_a_stride_of_no_layer_that_is_kept_does_no_harm() -> None:
    chain = nn.Sequential(Strided(to_depth, 16), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1))
    images = torch.randn(1, 3, 64, 96)
    old = chain(images)
    strides_to_dilations(chain, 8)
    assert torch.allclose(chain(images)[..., ::2, ::2], old, atol=1e-6) and chain[2].dilation == (2, 2)


@pytest.mark.parametrize(
    ("output_stride", "rates", "message"),
    [
        (0, {}, "output stride: found 0"),
        (-1, {}, "output stride: found -1"),
        (2.0, {}, "output stride: found 2.0"),
        (2, {"1": 1.5}, "dilation rates: found .1.5."),
        (2, {"1": 0}, "dilation rates"),
        (2, {"1": -2}, "dilation rates"),
        (2, {"1": 2, "layer9": 3}, "dilation rates: found rates for layer9; needed names .*: 0, 1"),
        (2, {"2": 3}, "rates for 2;"),
    ],
)
def test_strides_and_rates_that_are_none_are_refused(output_stride: Any, rates: Any, message: str) -> None:
    chain = network(nn.Conv2d(4, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 1))
    before = repr(chain)
    with pytest.raises(UserError, match=message):
        strides_to_dilations(chain, output_stride, rates)
    assert repr(chain) == before


def test_a_network_without_parameters_has_strides_too() -> None:
    chain = nn.Sequential(nn.MaxPool2d(2))
    strides_to_dilations(chain, 1)
    assert chain(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 8, 8)


def test_a_convolution_without_a_name_is_named() -> None:
    with pytest.raises(UserError, match="even kernels in the module itself;"):
        set_dilations(nn.Conv2d(4, 4, 4, padding="same"), [5])


def test_a_layer_that_stands_in_two_places_is_replaced_in_both() -> None:
    pooling = nn.MaxPool2d(2)
    chain = nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1), pooling, nn.Conv2d(4, 4, 1))
    chain.add_module("again", nn.Sequential())
    chain.again.add_module("pooling", pooling)
    chain.again.forward = lambda grid: grid  # type: ignore[method-assign]
    strides_to_dilations(chain, 2)
    assert chain[1] is chain.again.pooling and not isinstance(chain[1], nn.MaxPool2d)


def test_no_layer_changes_its_class_and_its_numbers_are_the_same_ones() -> None:
    even = nn.Conv2d(4, 4, 2, 2)
    chain = network(even, nn.MaxPool2d(2))
    weight, random_state = even.weight, torch.get_rng_state()
    strides_to_dilations(chain, 2)
    assert type(even) is nn.Conv2d and chain[1] is not even and isinstance(chain[1], nn.Conv2d)
    assert chain[1].weight is weight and "1.weight" in chain.state_dict()
    assert torch.equal(random_state, torch.get_rng_state())
    assert "sides=(0, 1, 0, 1)" in repr(chain[1]) or "sides=(0, 0, 0, 0)" in repr(chain[1])


def test_set_dilations_keeps_every_size_and_every_weight() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 5, stride=2, padding=2),
        nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(2, 2, 4),
    )  # fmt: skip
    image = torch.randn(1, 3, 40, 52)
    before, weights = network(image), [p.clone() for p in network.parameters()]
    assert set_dilations(network, [2, 3, 4, 1, 5]) == ["0", "2", "3", "4", "5"]
    assert [network[index].dilation[0] for index in (0, 2, 3, 4, 5)] == [2, 3, 4, 1, 5]
    assert network(image).shape == before.shape
    assert all(torch.equal(one, other) for one, other in zip(weights, network.parameters()))


def test_set_dilations_names_the_convolutions_it_counted() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    with pytest.raises(UserError, match=r"3 rates for 2 convolutions \(0, 1\)"):
        set_dilations(network, [1, 2, 3])
    with pytest.raises(UserError, match="even kernels in 0"):
        set_dilations(nn.Sequential(nn.Conv2d(1, 1, 4)), [2])


KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@settings(max_examples=60)
@given(
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 3, 5]),
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    st.sampled_from(["same", "valid", "as same", 0, 1, 2]),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_set_dilations_in_every_padding_mode(
    dimensions: int, kernel: int, mode: str, padding: str | int, old: int, rate: int
) -> None:
    sizes = (3, *[kernel] * (dimensions - 1))
    pads: Any = tuple(old * (side - 1) // 2 for side in sizes) if padding == "as same" else padding
    conv = KINDS[dimensions](1, 1, sizes, padding=pads, padding_mode=mode, dilation=old)
    grid = torch.randn(1, 1, *[17] * dimensions)
    before = conv(grid).shape[2:]
    assert set_dilations(nn.Sequential(conv), [rate]) == ["0"]
    after = conv(grid).shape[2:]
    assert isinstance(conv.padding, str) or min(conv.padding) >= 0
    for was, now, side, pad in zip(before, after, conv.kernel_size, _pads(pads, conv)):
        if padding in ("same", "as same"):
            assert was == now == 17
        elif pad == 0:
            assert now == 17 - rate * (side - 1), "without padding it stays valid"
        else:
            assert now == max(was, 17 - rate * (side - 1)), "padded it keeps its size, as far as padding can"
    # equal to a convolution that was made with that rate
    made = type(conv)(1, 1, conv.kernel_size, padding=conv.padding, padding_mode=mode, dilation=rate)
    made.load_state_dict(conv.state_dict())
    assert torch.equal(made(grid), conv(grid))


def _pads(padding: Any, conv: nn.Module) -> list[int]:
    if isinstance(padding, tuple):
        return list(padding)
    return [{"valid": 0, "same": 1}.get(padding, padding)] * len(conv.kernel_size)  # type: ignore[arg-type]


def test_an_unpadded_convolution_of_rate_4_goes_back_to_rate_1() -> None:
    conv = nn.Conv2d(1, 1, 3, dilation=4)
    set_dilations(nn.Sequential(conv), [1])
    assert conv.padding == (0, 0) and conv(torch.zeros(1, 1, 9, 9)).shape[-2:] == (7, 7)


@pytest.mark.parametrize("channels", [1, 4])
def test_networks_of_other_channels_than_three(channels: int) -> None:
    network = nn.Sequential(nn.Conv2d(channels, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))
    strides_to_dilations(network, output_stride=2)
    assert network(torch.zeros(1, channels, 16, 24)).shape[-2:] == (8, 12)
    assert [layer.dilation for layer in network] == [(1, 1), (1, 1), (2, 2)]


def test_a_first_convolution_by_name_that_runs_last() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(3, 8, 3, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(image))

    network = Backwards()
    strides_to_dilations(network, output_stride=2)
    assert network(torch.zeros(1, 3, 16, 24)).shape[-2:] == (8, 12)


def test_rates_without_names_are_refused() -> None:
    for rates in ([2], (2, 4), 2):
        with pytest.raises(UserError, match=r"dilation rates: found .* from names of convolutions to rates"):
            strides_to_dilations(network(nn.Conv2d(4, 4, 3, padding=1)), 8, rates)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make", [nn.utils.weight_norm, nn.utils.spectral_norm, partial(prune.l1_unstructured, name="weight", amount=0.5)]
)
def test_weights_that_a_hook_makes_are_still_made_and_trained(make: Any) -> None:
    chain = network(nn.Conv2d(4, 4, 2, 2))
    make(chain[1])
    chain.eval()
    names, images = {name for name, _ in chain.named_parameters()}, torch.randn(1, 3, 64, 96, dtype=torch.float64)
    old = chain(images)
    strides_to_dilations(chain, 2)
    assert {name for name, _ in chain.named_parameters()} == names
    torch.testing.assert_close(chain(images)[..., ::2, ::2], old, rtol=1e-10, atol=1e-12)
    chain.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in chain.parameters())
    next(chain[1].parameters()).data.mul_(0)
    assert chain(images).shape == (1, 4, 32, 48), "no weight of before is kept"


def test_a_convolution_with_a_forward_of_its_own_is_no_plain_one() -> None:
    chain = network(nn.Conv2d(4, 4, 2, 2))
    chain[1].forward = lambda grid: nn.Conv2d.forward(chain[1], grid) + 1  # type: ignore[method-assign]
    with pytest.raises(UserError, match="off-centre window"):
        strides_to_dilations(chain, 2)


def test_hooks_stay_where_a_layer_takes_anothers_place() -> None:
    chain = network(nn.Conv2d(4, 4, 2, 2), nn.MaxPool2d(2), nn.AvgPool2d(2))
    seen: list[nn.Module] = []
    handles = [layer.register_forward_hook(lambda layer, *_: seen.append(layer)) for layer in chain]
    strides_to_dilations(chain, 2)
    seen.clear()
    chain(torch.zeros(1, 3, 64, 96, dtype=torch.float64))
    assert seen == list(chain)
    for handle in handles:
        handle.remove()
    chain(torch.zeros(1, 3, 64, 96, dtype=torch.float64))
    assert len(seen) == 4


@pytest.mark.parametrize("counts_padding", [True, False])
def test_poolings_without_stride_are_traced_by_fx(counts_padding: bool) -> None:
    chain = network(nn.AvgPool2d(3, 2, 1, count_include_pad=counts_padding))
    strides_to_dilations(chain, 2)
    traced = torch.fx.symbolic_trace(chain)
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    assert torch.equal(traced(images), chain(images))
