"""What --crf means: the paper's settings, a file's, or those of a system that the paper compares with, by its name."""

from pathlib import Path

import pytest

from ducseg.crf import CrfParams, save_params
from ducseg.errors import UserError
from ducseg.inference.refine import crf_settings


def test_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crf_settings(()) == (CrfParams(), 10)
    assert crf_settings((Path("deeplabv2"),)) == (CrfParams(67, 3, 4, 1, 3), 10)
    assert crf_settings((Path("gcrf"),)) == (CrfParams(31, 4, 3, 1, 3), 10)
    monkeypatch.chdir(tmp_path)
    save_params(Path("deeplabv2"), CrfParams(w1=9), 3)
    assert crf_settings((Path("deeplabv2"),)) == (CrfParams(w1=9), 3), "a file of that name is that file"
    with pytest.raises(UserError, match="no file deeplabv3"):
        crf_settings((Path("deeplabv3"),))
