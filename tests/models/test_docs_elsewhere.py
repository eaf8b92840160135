"""The blocks of docs/elsewhere.md run, and every line with `# ->` behind it gives what is written there."""

import ast
import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "elsewhere.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
PEERS = {"import segmentation_models_pytorch": "smp", "timm": "timm", "import torchvision": "torchvision"}


def peer(block: str) -> str:
    return next(fixture for word, fixture in PEERS.items() if word in block)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{index}-{peer(block)}" for index, block in enumerate(BLOCKS)])
def test_block(request: pytest.FixtureRequest, block: str) -> None:
    request.getfixturevalue(peer(block))
    lines, names, checked = block.splitlines(), {}, 0
    for statement in ast.parse(block).body:
        assert statement.end_lineno is not None
        expected = re.fullmatch(r"# -> (.*)", [*lines, ""][statement.end_lineno])
        if expected is None:
            exec(compile(ast.Module([statement], []), str(DOCUMENT), "exec"), names)
            continue
        assert isinstance(statement, ast.Expr)
        assert repr(eval(compile(ast.Expression(statement.value), str(DOCUMENT), "eval"), names)) == expected[1]
        checked += 1
    assert checked == block.count("# ->") > 0


def test_every_peer_is_in_the_document() -> None:
    assert {peer(block) for block in BLOCKS} == set(PEERS.values())
