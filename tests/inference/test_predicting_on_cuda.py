"""Predictors on a GPU: the CPU's answers, the same bits twice, and memory."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ducseg.devices import available_memory, pick_device
from ducseg.errors import UserError
from ducseg.inference.bench import CompiledPredictor, measure
from ducseg.inference.predictor import Predictor
from ducseg.inference.stages import stage_times
from ducseg.inference.windowed import ByWindows
from ducseg.models import build
from ducseg.models.preprocessing import Preprocessing
from on_gpu import GPU, network, on_a_gpu, picture

pytestmark = on_a_gpu

HOW: dict[str, dict[str, Any]] = {
    "plain": {},
    "folded": {"fused": True},
    "scales and flip": {"scales": (0.5, 1.0, 1.5), "flip": True, "fused": True},
    "windows": {"tile": 64, "overlap": 32, "fused": True},
}


def both(how: dict[str, Any], **options: Any) -> tuple[Predictor, Predictor]:
    """On the CPU and on the GPU."""
    made = network("resnet18", "duc", **{"cell": 2, **options})
    return Predictor(copy.deepcopy(made), "cpu", **how), Predictor(made, "cuda", **how)


def agreement(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float((one == other).mean())


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("cell", [1, 2])
def test_answers_are_the_cpus(how: str, cell: int, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu = both(HOW[how], cell=cell)
    assert agreement(on_gpu(picture()), on_cpu(picture())) > 0.98  # with TF32, torch's default
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert agreement(on_gpu(picture()), on_cpu(picture())) > 0.999
    assert np.abs(on_gpu.probabilities(picture()) - on_cpu.probabilities(picture())).max() < 1e-3


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_picture_gives_the_same_bits(how: str, bf16: bool) -> None:
    predictor = both({**HOW[how], "bf16": bf16})[1]
    labels, probabilities = predictor(picture()), predictor.probabilities(picture())
    for _ in range(3):
        predictor(picture(50, 70))
        assert np.array_equal(predictor(picture()), labels)
        assert np.array_equal(predictor.probabilities(picture()), probabilities)


@pytest.mark.parametrize("how", HOW)
def test_bfloat16_labels_almost_all_pixels_alike(how: str) -> None:
    on_cpu, _ = both(HOW[how])
    on_gpu = both({**HOW[how], "bf16": True})[1]
    assert agreement(on_gpu(picture()), on_cpu(picture())) > 0.95


def test_several_pictures_at_once_are_each_alone() -> None:
    on_gpu, pictures = both({"fused": True})[1], [picture(seed=seed) for seed in range(3)]
    for labels, one in zip(on_gpu.labels_of(pictures), pictures):
        assert agreement(labels, on_gpu(one)) > 0.98


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_other_bits_and_channels(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    fed = Preprocessing(mean=(100.0, 3000.0), std=(50.0, 900.0), dtype=dtype)
    made = build("resnet18", "duc", 4, width=8, aspp=0, output_stride=16, num_channels=2, preprocessing=fed).eval()
    image = np.random.default_rng(0).integers(0, 6000, (40, 50, 2)).astype(dtype)
    for fused in (False, True):
        wanted = Predictor(copy.deepcopy(made), fused=fused).probabilities(image)
        assert np.abs(Predictor(made, "cuda", fused=fused).probabilities(image) - wanted).max() < 1e-3


def test_a_network_in_training_predicts_and_trains_on() -> None:
    made = network().to(GPU).train()
    predictor = Predictor(made, GPU)
    predictor(picture())
    assert made.training
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, device=GPU)
    made(made.preprocessing.normalise(images)).mean().backward()  # the mean and deviation on the GPU are ordinary ones
    assert next(made.parameters()).grad is not None


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"cuda:63.*one of the \d+ that torch sees"):
        pick_device("cuda:63")
    with pytest.raises(UserError, match=r"^device: found cuda:63"):
        Predictor(network(), "cuda:63")
    assert pick_device("auto").type == "cuda"


def test_what_torch_keeps_for_itself_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (10**9, 10**10))
    torch.cuda.empty_cache()
    before = available_memory(GPU)
    held = torch.empty(1 << 28, dtype=torch.uint8, device=GPU)
    assert available_memory(GPU) == before
    del held
    assert available_memory(GPU) == before + (1 << 28)
    torch.cuda.empty_cache()
    assert available_memory(GPU) == before


def test_a_picture_that_does_not_fit_goes_by_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, large = ByWindows(both({"fused": True})[1]), np.zeros((1200, 1500, 3), np.uint8)
    assert not windows.takes(large)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (10**8, 10**10))
    torch.cuda.empty_cache()
    assert windows.takes(large)


def test_each_stage_takes_time() -> None:
    found = stage_times(network(), np.stack([picture()]), GPU, bf16=True, rounds=2)
    assert [*found] == ["input", "stem", "res2", "res3", "res4", "res5", "head", "labels"]
    assert min(found.values()) > 0


def test_memory_and_time_are_measured() -> None:
    found = measure({"plain": both({})[1], "folded": both({"fused": True})[1]}, 1, 256, 256, rounds=3)
    for timing in found.values():
        assert timing.failed is None and timing.peak_mb is not None and 1 < timing.peak_mb < 1000


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler, about TF32
@pytest.mark.parametrize("bf16", [False, True])
def test_a_compiled_network_labels_alike(bf16: bool) -> None:
    on_cpu, _ = both({})
    compiled = CompiledPredictor(network("resnet18", "duc", cell=2), "cuda", bf16=bf16)
    assert agreement(compiled(picture()), on_cpu(picture())) > (0.95 if bf16 else 0.98)
