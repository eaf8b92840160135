"""Python in docs/elsewhere.md and docs/weights.md runs; a line with `# ->` behind it gives what is written there."""

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
ELSEWHERE, WEIGHTS = (
    re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for name in ("elsewhere.md", "weights.md")
)
BLOCKS = [*ELSEWHERE, *WEIGHTS]
PEERS = {"import segmentation_models_pytorch": "smp", "timm": "timm", "import torchvision": "torchvision"}


def peer(block: str) -> str:
    return next(fixture for word, fixture in PEERS.items() if word in block)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{index}-{peer(block)}" for index, block in enumerate(BLOCKS)])
def test_block(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str) -> None:
    monkeypatch.chdir(tmp_path)
    request.getfixturevalue(peer(block))
    lines, names, checked = block.splitlines(), {}, 0
    for statement in ast.parse(block).body:
        assert statement.end_lineno is not None
        expected = re.fullmatch(r"# -> (.*)", [*lines, ""][statement.end_lineno])
        if expected is None:
            exec(compile(ast.Module([statement], []), "docs", "exec"), names)
            continue
        assert isinstance(statement, ast.Expr)
        assert repr(eval(compile(ast.Expression(statement.value), "docs", "eval"), names)) == expected[1]
        checked += 1
    assert checked == block.count("# ->") > 0


def test_every_peer_is_in_the_document() -> None:
    assert {peer(block) for block in ELSEWHERE} == set(PEERS.values())
