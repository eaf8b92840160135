"""The campaign's fixtures: how much is drawn, from which seed, and the book of what was tried.

pytest tests/reliability -m slow                 a short draw of each, as CI does
pytest tests/reliability -m slow --campaign      all of it (`make campaign`); the book goes to campaign.json
pytest tests/reliability -m slow --seed 7 -k ... the draw of that seed again
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / part) for part in ("train", "serve", "weights/released")]


@dataclass
class Book:
    """What was tried, how often it went as promised, and how often not."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, what: str, *, tried: int = 0, lost: int = 0, **numbers: Any) -> None:
        """Counts add up over calls; other numbers are the latest."""
        row = self.rows.setdefault(what, {"tried": 0, "survived": 0, "lost": 0})
        row["tried"] += tried
        row["lost"] += lost
        row["survived"] = row["tried"] - row["lost"]
        row.update(numbers)


_book = Book()


@pytest.fixture(autouse=True)
def environment_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processes of `children` are forked from is started with this; other rooms' tests are not to see it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> bool:
    """Whether all is tried, not a short draw."""
    return bool(request.config.getoption("--campaign"))


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> Iterator[random.Random]:
    """Random numbers of this test, which follow from --seed and its name."""
    seed = request.config.getoption("--seed")
    print(f"seed {seed}: --seed {seed} draws the same again")
    yield random.Random(f"{seed} {request.node.name}")


@pytest.fixture(scope="session")
def tiny_camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set that runs train on."""
    from tiny_run import write_tiny_camvid

    return write_tiny_camvid(tmp_path_factory.mktemp("camvid"), num_train=8, num_val=2)


@pytest.fixture(scope="session")
def book() -> Book:
    """Where each test writes what it tried."""
    return _book


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not _book.rows:
        return
    terminalreporter.section(f"tried, survived, lost (seed {config.getoption('--seed')})")
    for what, row in _book.rows.items():
        more = ", ".join(f"{name} {value}" for name, value in row.items() if name not in ("tried", "survived", "lost"))
        terminalreporter.line(
            f"{what}: {row['tried']}, {row['survived']}, {row['lost']}" + (f"; {more}" if more else "")
        )
    if config.getoption("--campaign"):
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE)
        told = {
            "date": time.strftime("%Y-%m-%d"),
            "commit": commit.stdout.strip(),
            "seed": config.getoption("--seed"),
            "rows": _book.rows,
        }
        Path("campaign.json").write_text(json.dumps(told, indent=1) + "\n")
