"""Depthwise convolution: torch's numbers and gradients, in every order, window and precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.models.depthwise import DepthwiseConv2d


def _gradients(conv: nn.Module, x: Tensor, grad: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of the input, gradient of the weights, under bf16 autocast."""
    given = x.clone().requires_grad_()
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(given)
    found.backward(torch.ones_like(found) if grad is None else grad.to(found.dtype))
    assert given.grad is not None
    (weight,) = conv.parameters()
    assert weight.grad is not None
    return found.detach(), given.grad, weight.grad.clone()


@pytest.mark.usefixtures("bf16_in_hardware")
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("padding", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("size", [(12, 16), (13, 17), (11, 14)])
def test_gradients_are_torchs(kernel: int, stride: int, rate: int, padding: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = DepthwiseConv2d(8, kernel, stride=stride, padding=padding, dilation=rate)
    plain = nn.Conv2d(8, 8, kernel, stride, padding, rate, groups=8, bias=False).double()
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 8, *size).bfloat16().float().contiguous(memory_format=torch.channels_last)
    exact = x.double().requires_grad_()
    output = plain(exact)
    grad = torch.randn(output.shape).bfloat16()
    output.backward(grad.double())
    found, of_input, of_weight = _gradients(conv, x, grad)
    assert exact.grad is not None and plain.weight.grad is not None
    for ours, theirs in ((found, output), (of_input, exact.grad), (of_weight, plain.weight.grad)):
        torch.testing.assert_close(
            ours.double(), theirs.detach(), atol=0.02 * float(theirs.detach().abs().max()), rtol=0
        )


@pytest.mark.usefixtures("bf16_in_hardware")
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("rate", [3, 5, 9])
@pytest.mark.parametrize("size", [(12, 16), (5, 23)])
def test_gradients_at_large_rates_are_torchs(kernel: int, rate: int, size: tuple[int, int]) -> None:
    test_gradients_are_torchs(kernel, 1, rate, rate * (kernel // 2), size)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_skipping_the_first_is_a_later_window(order: torch.memory_format) -> None:
    torch.manual_seed(0)
    conv = DepthwiseConv2d(4, 3, stride=2, padding=2, skip=1)
    x = torch.randn(1, 4, 8, 10).contiguous(memory_format=order)
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, stride=2, groups=4)
    torch.testing.assert_close(conv(x), expected)
    assert conv(x).is_contiguous(memory_format=order)


def test_gradients_in_float32_are_exact() -> None:
    conv = DepthwiseConv2d(3, 5, stride=2, padding=3, skip=1).double()
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x,))


def test_a_bias_that_fusing_adds_is_added_where_gradients_are_kept_too() -> None:
    conv = DepthwiseConv2d(4, 3, stride=2, padding=1)
    conv.bias = nn.Parameter(torch.arange(4.0))
    x = torch.zeros(1, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x).float()[0, :, 0, 0], torch.arange(4.0))


def test_types_that_do_not_go_together_are_refused_and_float64_stays() -> None:
    conv, x = DepthwiseConv2d(8, 5, stride=2, padding=2), torch.randn(1, 8, 9, 9)
    with pytest.raises(RuntimeError, match=r"should be the same|expected scalar type"):
        conv(x.bfloat16())
    conv, x = conv.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x), nn.Conv2d.forward(conv, x))


def test_transforms_of_functions() -> None:
    conv, x = DepthwiseConv2d(4, 5, stride=2, padding=2).bfloat16(), torch.randn(1, 4, 9, 9).bfloat16()
    given = x.clone().requires_grad_()
    conv(given).sum().backward()
    assert given.grad is not None
    torch.testing.assert_close(torch.func.grad(lambda values: conv(values).sum())(x), given.grad, rtol=0.02, atol=0.02)
