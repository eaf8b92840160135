"""Summed dilated convolutions by products: what the convolutions give one by one, and their gradients."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ducseg.models.heads import FoldedHead
from ducseg.ops.summed import summed_convolutions

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def made(rates: Sequence[int], channels: int = 5, out: int = 7, *, kernel: int = 3) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(
        nn.Conv2d(channels, out, kernel, padding=rate * (kernel // 2), dilation=rate) for rate in rates
    ).double()


def one_by_one(convolutions: nn.ModuleList, features: Tensor) -> Tensor:
    return torch.stack([convolution(features) for convolution in convolutions]).sum(0)


def with_gradients(scores: Tensor, convolutions: nn.ModuleList, features: Tensor) -> list[Tensor]:
    errors = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(scores.dtype)
    gradients = torch.autograd.grad(scores, [features, *convolutions.parameters()], errors)
    return [scores.detach(), *gradients]


# inside the map, at its edge, and beyond it along one side or both, where only a row, a column or the centre is left
@pytest.mark.parametrize("size", [(30, 40), (7, 40), (30, 12), (6, 6), (5, 13), (1, 1)])
@pytest.mark.parametrize("rates", [(6, 12, 18, 24), (6, 12), (1, 2, 5), (3, 3)])
@pytest.mark.parametrize("memory", LAYOUTS)
def test_equals_the_convolutions_and_their_gradients(
    size: tuple[int, int], rates: Sequence[int], memory: torch.memory_format
) -> None:
    convolutions = made(rates).to(memory_format=memory)  # type: ignore[call-overload]
    features = torch.randn(3, 5, *size, dtype=torch.float64).contiguous(memory_format=memory).requires_grad_()
    wanted = with_gradients(one_by_one(convolutions, features), convolutions, features)
    found = with_gradients(summed_convolutions(convolutions, features), convolutions, features)
    torch.testing.assert_close(found, wanted, check_stride=False, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", [1, 5])
def test_other_kernels(kernel: int) -> None:
    convolutions = made((1, 4), kernel=kernel)
    features = torch.randn(1, 5, 9, 11, dtype=torch.float64, requires_grad=True)
    wanted = with_gradients(one_by_one(convolutions, features), convolutions, features)
    found = with_gradients(summed_convolutions(convolutions, features), convolutions, features)
    torch.testing.assert_close(found, wanted, check_stride=False, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("needed", ["features", "weight", "bias"])
def test_only_what_is_asked_for_has_a_gradient(needed: str) -> None:
    convolutions = made((2, 4)).requires_grad_(False)
    features = torch.randn(1, 5, 6, 6, dtype=torch.float64, requires_grad=needed == "features")
    wanted = [features]
    if needed != "features":
        wanted = [parameter for name, parameter in convolutions.named_parameters() if name.endswith(needed)]
        for parameter in wanted:
            parameter.requires_grad_()
    found = torch.autograd.grad(summed_convolutions(convolutions, features).square().sum(), wanted)
    expected = torch.autograd.grad(one_by_one(convolutions, features).square().sum(), wanted)
    torch.testing.assert_close(found, expected, check_stride=False)


def test_bfloat16_is_about_as_far_from_the_truth_as_the_convolutions() -> None:
    exact = made((6, 12, 18, 24), 256, 16)
    features = torch.randn(2, 256, 20, 30, dtype=torch.float64)
    convolutions = made((6, 12, 18, 24), 256, 16).float()
    truth = with_gradients(one_by_one(exact, features.requires_grad_()), exact, features)

    def off(scores: Tensor, leaf: Tensor) -> list[float]:
        found = with_gradients(scores, convolutions, leaf)
        return [float((a.double() - b).square().mean().sqrt()) for a, b in zip(found, truth, strict=True)]

    with torch.autocast("cpu", torch.bfloat16):
        leaf = features.detach().float().requires_grad_()
        ours, theirs = summed_convolutions(convolutions, leaf), one_by_one(convolutions, leaf)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    for mine, other in zip(off(ours, leaf), off(theirs, leaf), strict=True):
        assert mine <= 1.2 * other


def test_what_lies_in_the_padding_is_not_computed() -> None:
    convolutions, features = made((6, 12, 18, 24)).float(), torch.randn(1, 5, 12, 12)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        summed_convolutions(convolutions, features)
    # rate 6: half the rows, half the columns or both beside the centre; the others reach nothing from a map of 12
    places = 144 * (1 + 4 / 2 + 4 / 4)
    assert counter.get_total_flops() == 2 * places * 5 * 7


def test_hooks_of_a_path_are_called() -> None:
    convolutions, seen = made((1, 2)), []
    convolutions[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    features = torch.randn(1, 5, 6, 6, dtype=torch.float64)
    found = summed_convolutions(convolutions, features)
    assert len(seen) == 1
    torch.testing.assert_close(found, one_by_one(convolutions, features))


@pytest.mark.parametrize("hook", ["full_backward_hook", "full_backward_pre_hook", "forward_pre_hook"])
def test_hooks_of_every_kind_are_called(hook: str) -> None:
    convolutions, seen = made((1, 2)), []
    getattr(convolutions[0], f"register_{hook}")(lambda *_: seen.append(hook))
    summed_convolutions(convolutions, torch.randn(1, 5, 6, 6, dtype=torch.float64, requires_grad=True)).sum().backward()
    assert seen == [hook]


@pytest.mark.parametrize("hook", ["full_backward_hook", "forward_hook", "forward_pre_hook"])
def test_hooks_of_a_heads_path_are_called(hook: str) -> None:
    head, seen = FoldedHead(4, 3, output_stride=8, factor=2, aspp=2), []
    features = torch.randn(1, 4, 6, 6, requires_grad=True)
    expected = head(features)
    getattr(head.paths[1], f"register_{hook}")(lambda *_: seen.append(hook))
    found = head(features)
    found.sum().backward()
    assert seen == [hook] and found.shape == expected.shape == (1, 3, 4, 6, 6)
    torch.testing.assert_close(found, expected)


def test_a_convolution_of_another_kind_keeps_what_it_computes() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    convolutions = made((1, 2))
    convolutions.append(Doubled(5, 7, 3, padding=1).double())
    features = torch.randn(1, 5, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(summed_convolutions(convolutions, features), one_by_one(convolutions, features))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64, torch.uint8, torch.complex64])
def test_types_that_do_not_go_together_are_refused_as_by_convolutions(kind: torch.dtype) -> None:
    with pytest.raises(RuntimeError, match=r"should be the same|must match|not implemented"):
        summed_convolutions(made((1, 2)).float(), torch.ones(1, 5, 6, 6).to(kind))


def test_autocast_leaves_float64_as_it_is() -> None:
    convolutions, features = made((1, 2)), torch.randn(1, 5, 6, 6, dtype=torch.float64)
    wanted = one_by_one(convolutions, features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = summed_convolutions(convolutions, features)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_gradients_of_gradients() -> None:
    convolutions = made((1, 3), channels=2, out=2)
    features = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: summed_convolutions(convolutions, x) ** 2, features)


def test_transforms_of_functions() -> None:
    convolutions = made((1, 3), channels=2, out=2)
    pictures, moved = torch.randn(2, 3, 2, 4, 5, dtype=torch.float64)
    found = torch.func.vmap(lambda x: summed_convolutions(convolutions, x[None])[0])(pictures)
    torch.testing.assert_close(found, one_by_one(convolutions, pictures), rtol=1e-12, atol=1e-12)
    _, tangent = torch.func.jvp(lambda x: summed_convolutions(convolutions, x), (pictures,), (moved,))
    linear = one_by_one(convolutions, moved) - one_by_one(convolutions, 0 * moved)
    torch.testing.assert_close(tangent, linear, rtol=1e-12, atol=1e-12)
