"""The documentation is whole: links lead somewhere, commands parse, Python names what is there; nothing is left out."""

import ast
import importlib
import re
import textwrap
import tomllib
from pathlib import Path

import pytest
import tyro

from documented import PAGES, REPOSITORY, code_lines, command_lines, mentioned, page_id, python_blocks, scripts
from ducseg.cli import COMMANDS, completion, train
from ducseg.experiments import EXPERIMENTS
from ducseg.train.config import Config
from test_docs_run import NOT_RUN, OTHERS, SHOWN, SMALLER, smaller


def links(page: Path) -> list[str]:
    """Where a page's links lead in the repository."""
    found = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    assert not [link for link in links(page) if not (page.parent / link).exists()]


def test_every_page_is_in_the_reading_order() -> None:
    pages = {page.name for page in PAGES if page.parent.name == "docs"} - {"README.md"}
    assert not pages - set(links(REPOSITORY / "docs" / "README.md"))


def test_every_command_is_in_the_readme() -> None:
    table = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    shown = set()
    for words in re.findall(r"`ducseg ([^`]+)`", table):
        name, *rest = words.replace("\\|", "|").split()
        shown |= {name, *(f"{name} {below}" for below in (rest or [""])[0].split("|"))}
    assert not COMMANDS.keys() - shown


STAND_INS = {"EXPERIMENT": "camvid-resnet18-duc", "TABLE": "heads"}
"""What a reader puts there; RUN, DIR, FILE and the like are words that any place may have."""


def name_of(words: list[str]) -> str:
    name = next((one for one in (" ".join(words[:2]), words[0]) if one in COMMANDS), None)
    assert name is not None, f"ducseg {' '.join(words)}: no such command"
    return name


def parse(words: list[str]) -> object:
    """By the command's own parser; of `train DIR` and `train --resume RUN` without looking for them."""
    words = [STAND_INS.get(word, word) for word in words]
    name = name_of(words)
    rest = words[len(name.split()) :]
    if name == "train" and rest[0] not in EXPERIMENTS:
        options = train._ResumeOptions if rest[0] == "--resume" else train._FolderOptions
        given = {"out": Path("runs")} if options is train._FolderOptions else {}
        default = options(config=Config(name="mine"), **given)
        return tyro.cli(options, default=default, args=rest[2 if rest[0] == "--resume" else 1 :])
    module = importlib.import_module(f"ducseg.cli.{name.replace(' ', '_').replace('-', '_')}")
    return module.parse(rest) if hasattr(module, "parse") else tyro.cli(module.Options, args=rest)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_of_a_page_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in command_lines(page):
        try:
            assert parse(words) is not None
        except SystemExit as ended:
            assert ended.code == 0, f"ducseg {' '.join(words)}\n{capsys.readouterr().out}"


def test_every_command_is_shown_with_its_arguments() -> None:
    shown = {name_of(words) for page in PAGES for words in command_lines(page)}
    assert COMMANDS.keys() - shown <= {"completion"}, "source <(ducseg completion bash) is no line of its own"


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    return {name: {*completion._options(name), "--minutes", "--plan-only"} for name in COMMANDS}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_in_sentences_are_there_with_their_options(page: Path, options: dict[str, set[str]]) -> None:
    for line in mentioned(page):
        first = line.replace("|", " ").split()[0]
        if first in ("score", "data", "figure", "COMMAND", "--version"):
            continue
        name = name_of(line.split())
        assert not set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", line)) - options[name], line


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=page_id)
def test_python_of_a_page_names_what_is_there(page: Path) -> None:
    for block in python_blocks(page):
        if re.match(r"(from ducseg\S+ import .*\n)? {4}\S", block):
            continue  # a line to put into a table
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ducseg") and not _made_there(node):
                exec(ast.unparse(node), {})


def _made_there(node: ast.ImportFrom) -> bool:
    """A module that docs/contributing.md has its reader write."""
    return (node.module or "").rpartition(".")[2] in ("orchard", "plain", "hidden_duc")


KEPT = [page for page in PAGES if page.name not in ("RESULTS.md", "LOG.md")]
"""Pages that say how, not what was found: all that they show is run."""


@pytest.mark.parametrize("page", KEPT, ids=page_id)
def test_no_block_is_passed_over(page: Path) -> None:
    """Fences begin a line and name a language that is known here; what is a command or Python is found as such."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^( *)```(.*)$", text, re.MULTILINE)
    assert {*fences} <= {("", language) for language in ("", "python", "bash", "console", "text")}
    assert not [line for line in code_lines(page) if re.match(r" *(import|from \S+ import) ", line)]
    names = "|".join({name.split()[0] for name in COMMANDS})
    lines = [line.partition(" #")[0] for line in code_lines(page)]
    commands = [line for line in lines if re.search(rf"(^|[\s'])ducseg ({names})\b", line)]
    synopses = [line for line in commands if "..." in line or "[-" in line]
    assert len(commands) - len(synopses) == len(command_lines(page)) + sum("ducseg" in one for one in scripts(page))
    assert len(synopses) <= 1


def test_what_is_not_run_is_little_and_has_a_test_of_its_own() -> None:
    lines = [" ".join(words) for page in SHOWN for words in command_lines(page)]
    skipped = {pattern: [line for line in lines if re.search(pattern, line)] for pattern in NOT_RUN}
    assert all(skipped.values()) and sum(map(len, skipped.values())) <= 8 < len(lines) / 15
    for reason in [*NOT_RUN.values(), *OTHERS.values()]:
        assert all((REPOSITORY / file).is_file() for file in re.findall(r"tests/\S+\.py", reason))
    assert not [
        page for page, file in OTHERS.items() if file and Path(page).name not in (REPOSITORY / file).read_text()
    ]
    assert not [pattern for pattern in SMALLER if all(smaller_without(pattern, line) for line in lines)], "of no use"


def smaller_without(pattern: str, line: str) -> bool:
    """Whether a line becomes the same without one of the rules."""
    return smaller(line) == smaller(line, leave_out=pattern)


def test_other_programs_are_called_with_what_is_there() -> None:
    """Targets of make, extras of pip; what else pages call has a test in tests/test_docs_run.py."""
    lines = [line.strip() for page in KEPT for line in code_lines(page)]
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not {line.split()[1] for line in lines if line.startswith("make ")} - targets
    named = [name for page in KEPT for name in re.findall(r"(?:'\.|ducseg)\[([a-z,]+)\]", page.read_text())]
    assert named and not {extra for group in named for extra in group.split(",")} - extras.keys()
