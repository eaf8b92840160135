"""What is installed is pinned, pins are in the ranges that pyproject.toml states, and benchmarks/ fits the package."""

import ast
import importlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
    for requirement in [Requirement(line)]
}


def closure(lines: Iterable[str]) -> set[str]:
    """Names of all that installing these requirements installs, where it is installed here."""
    names: set[str] = set()
    todo = [(Requirement(line), "") for line in lines]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in names or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        names.add(name)
        try:
            needed = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        todo += [(one, extra) for one in needed for extra in (*requirement.extras, "")]
    return names


def test_all_that_make_installs_is_pinned() -> None:
    missing = closure([*PROJECT["dependencies"], *EXTRAS["dev"]]) - PINS.keys()
    assert not missing


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_pins_are_in_the_stated_ranges(extra: str) -> None:
    for line in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(line)
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in constraints.txt"
        assert pin in requirement.specifier, line


@pytest.mark.slow
def test_the_wheel_has_what_the_package_reads(tmp_path: Path) -> None:
    """Every file that is no Python: the server's page, py.typed."""
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, tmp_path / name)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    package = REPOSITORY / "src" / "ducseg"
    files = [file for file in package.rglob("*") if file.is_file() and file.suffix not in (".pyc", ".nbi", ".nbc")]
    assert package / "serve" / "static" / "index.html" in files
    with ZipFile(wheel) as packed:
        assert not {file.relative_to(package.parent).as_posix() for file in files} - set(packed.namelist())


@pytest.mark.parametrize("file", sorted((REPOSITORY / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_what_a_benchmark_takes_from_the_package_is_there(file: Path) -> None:
    taken = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ducseg"
        for alias in node.names
    ]
    assert taken
    for module, name in taken:
        assert hasattr(importlib.import_module(module), name), f"from {module} import {name}"
