import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from ducseg import cores, devices
from ducseg.cli.data_check import Options
from ducseg.cli.options import Workers
from ducseg.cores import available_cores
from ducseg.devices import available_memory, has_bf16, in_bf16, pick_device, ran_out_of_memory, wide
from ducseg.errors import Said, UserError
from ducseg.models.depthwise import memory_order
from ducseg.train.config import LossConfig
from ducseg.train.loss import FoldedLoss

KINDS = ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    "name", ["0", "gpu", "", "cuda:x", "cuda:-1", "cpu:1", "mps:0", "CPU", "xpu", "cuda", "cuda:0", "mps"]
)
def test_what_is_no_device_here_names_the_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^--run.device: found "):
        pick_device(name, option="--run.device")


def test_auto_is_the_cpu_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0", "cuda:1"])
def test_each_of_several_processes_has_the_gpu_of_its_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(name, rank, local_ranks=2).index for rank in range(2)] == [0, 1]
    with pytest.raises(UserError, match=r"GPU 2.*one of the 2.*as many processes"):
        pick_device(name, 2, local_ranks=3)
    assert pick_device("cuda:1").index == 1
    with pytest.raises(UserError, match="GPU 7"):
        pick_device("cuda:7")


def test_auto_leaves_an_apple_gpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.warns(Said, match=r"--run\.device auto: the processor; --run\.device mps takes the Apple GPU"):
        assert pick_device("auto", option="--run.device") == torch.device("cpu")
    assert (pick_device("cpu").type, pick_device("mps").type) == ("cpu", "mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto").type == "cuda"


@pytest.mark.parametrize(
    "words",
    [
        "MPS backend out of memory (MPS allocated: 7.23 GB, max allowed: 9.07 GB). Tried to allocate 896.00 MB",
        "Invalid buffer size: 19.38 GiB",
    ],
)
def test_apples_gpus_run_out_of_memory_in_their_own_words(words: str) -> None:
    assert ran_out_of_memory(RuntimeError(words))
    assert not ran_out_of_memory(RuntimeError("Placeholder storage has not been allocated on MPS device!"))


def test_networks_with_depthwise_convolutions_on_cuda_and_all_on_apples_gpus_are_in_torchs_own_order() -> None:
    plain, depthwise = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3, groups=2)
    found = {kind: [memory_order(one, torch.device(kind)) for one in (plain, depthwise)] for kind in KINDS}
    last, own = torch.channels_last, torch.contiguous_format
    assert found == {"cpu": [last, last], "cuda": [last, own], "mps": [own, own]}


def test_nothing_in_float64_is_on_an_apple_gpu_or_taken_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no such numbers there; a copy from there into them wrote nothing (pytorch issue 197715)."""
    moved: list[torch.Tensor] = []

    def to(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        moved.append(tensor)
        return torch.empty_like(tensor, device="meta")  # whose numbers cannot be read, as if they were there

    monkeypatch.setattr(torch.Tensor, "to", to)
    loss = FoldedLoss(LossConfig(class_weights=(1.0, 3.0)), ["a", "b"], torch.device("mps"))
    assert [tensor.dtype for tensor in moved] == [torch.float32]
    assert loss.count(torch.tensor([[0, 1, 255]], dtype=torch.uint8)).tolist() == [2, 4]


def test_apples_gpus_have_no_float64() -> None:
    class OnMps:
        device = torch.device("mps")

        def float(self) -> str:
            return "float32"

    assert wide(OnMps()) == "float32"  # type: ignore[arg-type, comparison-overlap]
    assert wide(torch.zeros(2)).dtype == torch.float64


def test_no_more_processes_than_cores_that_this_one_is_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {5, 9}, raising=False)
    assert available_cores() == Workers().workers == Options(dataset="folder", root="x").workers == 2
    monkeypatch.delattr(os, "sched_getaffinity")  # Windows, macOS
    assert available_cores() == 128


def test_free_memory_is_that_of_the_least_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    free = available_memory()
    assert 1 << 20 < free <= psutil.virtual_memory().total
    bound = psutil.Process().memory_info().vms + (64 << 20)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (bound, bound))
    assert abs(available_memory() - (64 << 20)) < 16 << 20
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1 << 20, 1 << 20))
    assert available_memory() == 0
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY,) * 2)
    monkeypatch.setattr(devices, "_CGROUPS", ())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=12345))  # macOS, Windows
    assert available_memory() == 12345


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("max 100000\n",), 128),
        (("250000 100000\n",), 3),
        (("50000 100000\n",), 1),
        (("-1\n", "100000\n"), 128),
        (("400000\n", "100000\n"), 4),
        ((), 128),
    ],
)
def test_no_more_than_a_container_has_time_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: tuple[str, ...], expected: int
) -> None:
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_text(text)
    files = tuple(str(tmp_path / str(number)) for number in range(len(texts) or 1))
    monkeypatch.setattr(cores, "_QUOTAS", (files, (str(tmp_path / "none"),)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(128)), raising=False)
    assert available_cores() == expected


@pytest.mark.parametrize("extension", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_processor_with_either_extension_has_bfloat16(
    extension: str, no_bf16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_bf16(torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, extension, lambda: True)
    assert has_bf16(torch.device("cpu"))
    assert in_bf16(True, torch.device("cpu"))


def test_what_would_be_imitated_is_said_to_be_float32(no_bf16: None) -> None:
    assert not in_bf16(False, torch.device("cpu"))
    with pytest.warns(Said, match="float32 in place of bfloat16, which this cpu would only imitate"):
        assert not in_bf16(True, torch.device("cpu"))
