"""The notebooks are jupytext's percent scripts, and run from beginning to end."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ducseg

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.py"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_cells_are_marked(notebook: Path) -> None:
    head, first, *cells = re.split(r"^# %%.*\n", notebook.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "format_name: percent" in head and first.startswith("# # ") and len(cells) > 5


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    given = {
        **os.environ,
        "MPLBACKEND": "Agg",
        "PYTHONPATH": str(Path(ducseg.__file__).parents[1]),
        "TMPDIR": str(tmp_path),
    }
    run = subprocess.run([sys.executable, notebook], cwd=tmp_path, env=given, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout
