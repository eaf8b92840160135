"""Names of files do not move a terminal's cursor, nor change its title."""

from pathlib import Path

import pytest

from ducseg.cli import main


def test_an_error_about_a_strange_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"{tmp_path}/\x1b]0;mine\x07\x9b2J", "--out", f"{tmp_path}/a.html"]) == 2
    said = capsys.readouterr().err
    assert "]0;mine?" in said
    assert not {"\x1b", "\x07", "\x9b"} & set(said)
