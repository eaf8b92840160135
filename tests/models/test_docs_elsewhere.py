"""Python in docs/elsewhere.md and docs/weights.md runs; a line with `# ->` behind it gives what is written there."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from documented import REPOSITORY, python_blocks, run_block
from ducseg.models import build

ELSEWHERE, WEIGHTS = (python_blocks(REPOSITORY / "docs" / name) for name in ("elsewhere.md", "weights.md"))
BLOCKS = [*ELSEWHERE, *(block for block in WEIGHTS if "# ->" in block)]
(START,) = (block for block in WEIGHTS if "# ->" not in block)
PEERS = {"import segmentation_models_pytorch": "smp", "timm": "timm", "import torchvision": "torchvision"}


def peer(block: str) -> str:
    return next(fixture for word, fixture in PEERS.items() if word in block)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{index}-{peer(block)}" for index, block in enumerate(BLOCKS)])
def test_block(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str) -> None:
    monkeypatch.chdir(tmp_path)
    request.getfixturevalue(peer(block))
    assert run_block(block, {}) > 0


def test_every_peer_is_in_the_document() -> None:
    assert {peer(block) for block in ELSEWHERE} == set(PEERS.values())


@pytest.mark.slow
def test_weights_to_start_with_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block that would download, with files of the released names and random tensors in a folder of one's own."""
    files = {"resnet101-63fe2227.safetensors": "7x7", "resnet101s.gluon_in1k.safetensors": "3x3"}
    for name, stem in files.items():
        encoder = build("resnet101", "bilinear", 2, aspp=0, stem=stem).encoder
        save_file({key: tensor.contiguous() for key, tensor in encoder.state_dict().items()}, tmp_path / name)
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(tmp_path))
    names: dict[str, Any] = {}
    run_block(START, names)
    assert list(files)[1] in str(names["report"])
