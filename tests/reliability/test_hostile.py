"""Hostile files: a `UserError` of one line or a right answer, in bounded time and memory.

No traceback, no hang, nothing written elsewhere, no code run. What `hostile_targets` lists is tried on mutations of
good files and on files made by hand.
"""

from pathlib import Path
from typing import Any

import pytest
from hostile_targets import TARGETS
from hostile_workers import read_many


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_hostile_files_are_refused_or_read_rightly(
    target: str, tmp_path: Path, campaign: bool, book: Any, request: pytest.FixtureRequest
) -> None:
    count = 700 if campaign else 25
    found = read_many(target, request.config.getoption("--seed"), count, tmp_path)
    outcomes = dict(found.outcomes)
    book.add(
        f"hostile: {target}", tried=sum(outcomes.values()), lost=len(found.failures), outcomes=outcomes,
        slowest_s=round(found.slowest, 2), memory_MiB=found.memory >> 20,
    )  # fmt: skip
    assert not found.failures, "\n\n".join(found.failures[:12])
