"""Progress: one display at a time, which is all that rich before 14.1 allows; in a log, a line a minute."""

from typing import Any

import pytest
from rich.console import Console
from rich.errors import LiveError
from rich.progress import Progress

from ducseg import progress
from ducseg.progress import counted, counted_stages


@pytest.fixture
def old_rich(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """A terminal on which a second display is an error, and the displays that were begun."""
    begun: list[Progress] = []
    running: list[Progress] = []
    start, stop = Progress.start, Progress.stop

    def only_one(self: Progress) -> None:
        if running:
            raise LiveError("Only one live display may be active at once")
        begun.append(self)
        running.append(self)
        start(self)

    def done(self: Progress) -> Any:
        if self in running:
            running.remove(self)
        return stop(self)

    monkeypatch.setattr(Progress, "start", only_one)
    monkeypatch.setattr(Progress, "stop", done)
    monkeypatch.setattr(Console, "is_terminal", property(lambda _self: True))
    return begun


def test_several_stages_are_one_display(old_rich: list[Progress]) -> None:
    with counted_stages("predicted", "refined") as show:
        show("predicted", 2, 4)
        (display,) = old_rich
        assert [(task.description, task.completed, task.visible) for task in display.tasks] == [
            ("predicted", 2, True),
            ("refined", 0, False),
        ]
        show("refined", 1, 4)
        assert [task.visible for task in display.tasks] == [True, True]


def test_one_after_the_other(old_rich: list[Progress]) -> None:
    for what in ("read", "written"):
        with counted(what) as show:
            show(1, 2)
    assert [display.tasks[0].description for display in old_rich] == ["read", "written"]


def test_a_log_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with counted_stages("predicted", "windows") as show:
        for second in range(181):
            now = 100.0 + second
            show("predicted", second, 1000)
            show("windows", 1, 4)
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"predicted: {second} of 1000" for second in (60, 120, 180)]
    assert said.out == "", "results alone"
