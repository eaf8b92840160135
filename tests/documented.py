"""What the documentation shows to be typed: commands and blocks of Python."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *REPOSITORY.glob("pretrained/*/README.md")]
)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_STARTERS = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:torchrun .*?(?:-m|--no-python) )?(ducseg .*)$")


def page_id(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def python_blocks(page: Path) -> list[str]:
    return [text for language, text in _FENCED.findall(page.read_text(encoding="utf-8")) if language == "python"]


def code_lines(page: Path) -> list[str]:
    """Lines of a page's blocks that are not Python, fenced or indented; one that ends in a backslash goes on."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for language, block in _FENCED.findall(text) if language != "python" for line in block.splitlines()]
    return lines + [line for line in _FENCED.sub("", text).splitlines() if re.match(r" {4,}\S", line)]


def command_lines(page: Path) -> list[list[str]]:
    """Every `ducseg ...` of a page's code, as a shell splits it, without what follows `|`, `>`, `&` or `;`.

    A synopsis, with `[--option]` or `...`, is none.
    """
    found = []
    for line in code_lines(page):
        if (typed := _STARTERS.match(line.strip())) is None:
            continue
        lexer = shlex.shlex(typed[1], posix=True, punctuation_chars="|>&;")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words = list(lexer)
        end = next((place for place, word in enumerate(words) if set(word) <= set("|>&;")), len(words))
        if not [word for word in words[:end] if word == "..." or word.startswith("[")]:
            found.append(words[1:end])
    return found


def scripts(page: Path) -> list[str]:
    """Its blocks of bash, which are run whole."""
    return [text for language, text in _FENCED.findall(page.read_text(encoding="utf-8")) if language == "bash"]


def mentioned(page: Path) -> list[str]:
    """`ducseg ...` within sentences and tables, where values may be left out."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    return [line.replace("\\|", "|") for line in re.findall(r"`ducseg ([^`\n]+)`", text)]


def run_block(block: str, names: dict[str, Any]) -> int:
    """Run a block of Python; a line `# -> VALUE` below an expression is what it gives. How many there were."""
    lines, checked = block.splitlines(), 0
    for statement in ast.parse(block).body:
        assert statement.end_lineno is not None
        expected = re.fullmatch(r"# -> (.*)", [*lines, ""][statement.end_lineno])
        if expected is None:
            exec(compile(ast.Module([statement], []), "docs", "exec"), names)
            continue
        assert isinstance(statement, ast.Expr)
        assert repr(eval(compile(ast.Expression(statement.value), "docs", "eval"), names)) == expected[1]
        checked += 1
    assert checked == block.count("# ->")
    return checked
