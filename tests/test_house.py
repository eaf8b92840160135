"""The house: which rooms the package has, and which way the arrows between its files point.

An import counts wherever it stands: inside a function, under TYPE_CHECKING. `from ducseg.ops import duc` is an arrow to
ops/duc.py, `from ducseg.ops import fold_labels` one to ops/__init__.py; that Python runs a folder's __init__ on the way
to a file in it is no arrow.
"""

import ast
from collections.abc import Iterator, Mapping, Set
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import ducseg

HOUSE = """\
| room | holds | imports |
|---|---|---|
| the top | cores, errors, classes, files, progress, version, devices: small files for every room | |
| ops | the paper itself, pure torch, for anyone's network: DUC, schedules, coverage, dilation, receptive field | |
| data | samples and batches; layouts (one file per data set), files, check (the doctor), convert, synthetic | |
| metrics | scores from counts: confusion, boundary, thin objects, the benchmarks' own | data |
| crf | the dense CRF on any probabilities, and its tuning | ops, data, metrics |
| figures | pictures and reports, drawn from results | ops, data, metrics |
| models | encoders, heads, what they are built into; comparisons (the networks that the paper stands beside) | ops |
| weights | networks in and out of files: checkpoints, the Hub, ImageNet's, the authors' | ops, models |
| inference | from a network and pictures to labels, files, scores | ops, data, metrics, crf, figures, models, weights |
| serve | a network behind HTTP, and its page | data, figures, inference |
| export | networks for other runtimes: ONNX, its parity, int8 | ops, data, metrics, models, weights, inference |
| train | configuration, run folder, step, loss, loop | ops, data, metrics, figures, models, weights, inference |
| experiments | a function per published row; tables of rows, run | data, metrics, models, weights, inference, train |
| cli | one file per command: its options and its short body | every room |
"""
"""The picture of the house, from the ground up: a room may import the rooms it names, all of them above it here."""

PACKAGE = Path(ducseg.__file__).parent
TESTS = Path(__file__).parent

TOP = {"cores", "errors", "classes", "files", "progress", "version", "devices"}
ABOVE_ALL = {"__init__", "__main__"}  # `ducseg.load` and `python -m ducseg`: nothing in the package imports them

KNOWN: set[tuple[str, str]] = set()
"""Arrows against the order that are still there, to be mended: the arrow goes, then its line here; none is added."""


def rooms() -> dict[str, set[str]]:
    """Room -> the rooms that its files may import, read from `HOUSE`."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in HOUSE.splitlines()[3:]]
    named = {room: {one.strip() for one in imports.split(",") if one} for room, _, imports in rows}
    return {room: set(named) if imports == {"every room"} else imports for room, imports in named.items()}


@cache
def arrows(package: Path = PACKAGE) -> frozenset[tuple[str, str]]:
    """(file, file it imports), both relative to the package."""
    trees = {file.relative_to(package).as_posix(): ast.parse(file.read_text()) for file in package.rglob("*.py")}
    return frozenset((file, target) for file, tree in trees.items() for target in _imported(tree, trees))


def _imported(tree: ast.Module, files: Mapping[str, object]) -> Iterator[str]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports are absolute, got {ast.unparse(node)}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] == "ducseg":
                yield _file(name, files) or _file(name.rpartition(".")[0], files) or name


def _file(module: str, files: Mapping[str, object]) -> str | None:
    path = "/".join(module.split(".")[1:])
    candidates = [f"{path}.py", f"{path}/__init__.py"] if path else ["__init__.py"]
    return next((file for file in candidates if file in files), None)


def _room(file: str) -> str:
    return file.split("/")[0] if "/" in file else "the top"


def allowed(source: str, target: str) -> bool:
    """Whether the first file may import the second."""
    if target.removesuffix(".py") in ABOVE_ALL:
        return False
    if source.removesuffix(".py") in ABOVE_ALL or _room(target) in ("the top", _room(source)):
        return True
    return _room(target) in rooms().get(_room(source), set())


def circle_in(graph: Set[tuple[str, str]]) -> list[str]:
    """Files that import each other in a circle, in its order; empty without one."""
    order = TopologicalSorter[str]()
    for source, target in graph:
        order.add(source, target)
    try:
        order.prepare()
    except CycleError as error:
        return [str(file) for file in reversed(error.args[1])]
    return []


def test_the_picture_is_an_order():
    seen: set[str] = set()
    for room, imports in rooms().items():
        wrong = imports - seen - {"cli"}
        assert not wrong, f"{room} imports {wrong}, which the picture shows below it"
        seen.add(room)


def test_every_arrow_points_down():
    wrong = {arrow for arrow in arrows() - KNOWN if not allowed(*arrow)}
    assert not wrong, "against the order of rooms (HOUSE in this file): " + "; ".join(
        f"{source} imports {target}" for source, target in sorted(wrong)
    )


def test_no_circle_of_files():
    circle = circle_in(arrows() - KNOWN)
    assert not circle, "a circle of files: " + " imports ".join(circle)


def test_known_violations_are_violations():
    """A line of `KNOWN` goes with its arrow."""
    graph = arrows()
    gone = {arrow for arrow in KNOWN if arrow not in graph}
    assert not gone, f"no longer imported, take it out of KNOWN: {gone}"
    harmless = {arrow for arrow in KNOWN if allowed(*arrow) and not circle_in(graph - KNOWN | {arrow})}
    assert not harmless, f"in order and in no circle, take it out of KNOWN: {harmless}"


def test_nothing_at_the_top_but_the_small_files_and_the_rooms():
    assert {file.stem for file in PACKAGE.glob("*.py")} == TOP | ABOVE_ALL
    folders = {file.parent.relative_to(PACKAGE).parts[0] for file in PACKAGE.glob("*/**/*.py")}
    assert folders == set(rooms()) - {"the top"}, "a room has one row in HOUSE, and a row has its room"


def test_tests_mirror_the_rooms():
    """Every room has its tests; a folder of tests is a folder of the package; what spans rooms lies at the top.

    The campaign of tests/reliability spans them all.
    """
    folders = {file.parent.relative_to(TESTS).as_posix() for file in TESTS.rglob("test_*.py")}
    unknown = {folder for folder in folders if not (PACKAGE / folder).is_dir()} - {"reliability"}
    assert not unknown, f"tests of rooms that the package does not have: {unknown}"
    assert not set(rooms()) - {"the top"} - folders, "a room without tests"


BY_NAME = ("cli/__init__.py", "__init__.py")
"""The table of commands, and `ducseg.ROOM`, which is for users."""


def test_the_package_is_imported_by_name_only_where_tables_of_names_are():
    """A string is an arrow that this test cannot see."""
    calls = [
        (file.relative_to(PACKAGE).as_posix(), ast.unparse(node))
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__"))
    ]
    assert not [(file, call) for file, call in calls if "ducseg" in call and file not in BY_NAME]


def test_the_graph_sees_what_it_is_meant_to_see():
    tree = ast.parse(
        "from ducseg.ops import duc, fold_labels\n"
        "def lazy():\n    import ducseg.models.build\n"
        "if TYPE_CHECKING:\n    from ducseg import load\n"
        "import torch\n"
    )
    files = dict.fromkeys(["__init__.py", "ops/__init__.py", "ops/duc.py", "models/__init__.py", "models/build.py"])
    assert set(_imported(tree, files)) == {"ops/duc.py", "ops/__init__.py", "models/build.py", "__init__.py"}
    assert not allowed("models/build.py", "weights/hub.py")
    assert not allowed("ops/duc.py", "__init__.py")
    assert not allowed("errors.py", "ops/duc.py")
    assert circle_in({("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")})
    assert not circle_in({("a", "b"), ("b", "c"), ("a", "c")})
