"""Python in docs/elsewhere.md and docs/weights.md runs; a line with `# ->` behind it gives what is written there."""

from pathlib import Path

import pytest

from documented import REPOSITORY, python_blocks, run_block

ELSEWHERE, WEIGHTS = (python_blocks(REPOSITORY / "docs" / name) for name in ("elsewhere.md", "weights.md"))
BLOCKS = [*ELSEWHERE, *WEIGHTS]
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
