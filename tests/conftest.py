"""Shared fixtures: the folder of real data, peers to compare with, one thread for torch, deterministic hypothesis."""

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the commands do, before torch is loaded
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """torch is not imported before there are tests to run: the process that hands them out needs none."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _bf16() -> Iterator[bool]:
    """Tests compute in bfloat16 where they ask for it, also on processors that imitate it. Gives what is the case."""
    import torch

    from ducseg.devices import has_bf16

    there = has_bf16(torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
        yield there


@pytest.fixture
def bf16_in_hardware(_bf16: bool) -> None:
    """For what is compared to more digits than torch's imitation of bfloat16 has right: it sums in bfloat16 too."""
    if not _bf16:
        pytest.skip("this processor only imitates bfloat16")


@pytest.fixture
def bf16_as_it_is(_bf16: bool, request: pytest.FixtureRequest) -> None:
    """For what trains for minutes, which an imitated bfloat16 makes ten times as many."""
    if not _bf16:
        request.getfixturevalue("no_bf16")


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that only imitates bfloat16."""
    import torch

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of tests/reliability, whose draws are random."""
    parser.addoption("--seed", type=int, default=0, help="what tests/reliability draws follows from it")
    parser.addoption("--campaign", action="store_true", help="tests/reliability in full, not a short draw of each")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data, ImageNet weights and answers of the originals; without it the test is skipped."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name}/ beside the repository: real data and the originals' answers live there")
    return folder


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision with its models; skipped where it is not installed or does not import."""
    return _peer("torchvision.models") and sys.modules["torchvision"]


@pytest.fixture(scope="session")
def timm(torchvision: ModuleType) -> ModuleType:
    """timm, which needs a torchvision that imports."""
    return _peer("timm")


@pytest.fixture(scope="session")
def smp(timm: ModuleType) -> ModuleType:
    """segmentation_models_pytorch, which needs timm."""
    return _peer("segmentation_models_pytorch")


def _peer(name: str) -> ModuleType:
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (make test tries to)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (
            RuntimeError
        ) as error:  # a torchvision made for another build of torch: its compiled operators are missing
            for module in [module for module in sys.modules if module.partition(".")[0] == package]:
                del sys.modules[module]
            tools = Path(__file__).resolve().parents[2] / "shared" / "tools"
            if not (tools / "torchvision_cpu_shim.py").is_file():
                pytest.skip(f"{package} does not import beside this torch: {error}")
            sys.path.append(str(tools))
            importlib.import_module("torchvision_cpu_shim")
            return importlib.import_module(name)
