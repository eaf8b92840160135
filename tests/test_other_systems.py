"""What Windows and macOS do otherwise than Linux, as far as it can be acted out here."""

import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ducseg
from ducseg import errors, files
from ducseg.data.processes import mapped
from ducseg.errors import Said, UserError, said_as_lines, typed
from ducseg.files import folded_name, rename, whole_file, whole_folder


@given(path=st.text(st.characters(exclude_characters='\0"', exclude_categories=["Cc", "Cs"]), min_size=1))
def test_a_path_is_typed_so_that_windows_reads_it_as_one_word(path: str) -> None:
    """Both of its shells know double quotes, cmd no others; a path has none in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errors, "os", SimpleNamespace(name="nt"))
        word = typed(path)
    ending = path[len(path.rstrip("\\")) :]  # as of a share, \\\\server\\pictures\\
    assert word in (path, f'"{path}{ending}"')
    assert word != path or not set(path) & set(" '`$&|<>()^;!~#{}*?")


def test_a_command_is_typed_as_its_shell_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("ducseg", "eval", Path("runs/my crop's")) == """ducseg eval 'runs/my crop'"'"'s'"""
    monkeypatch.setattr(errors, "os", SimpleNamespace(name="nt"))
    assert typed("ducseg", r"C:\runs\1", r"C:\my runs\1") == r'ducseg C:\runs\1 "C:\my runs\1"'


@pytest.mark.parametrize("system", ["nt", "posix"])
def test_on_windows_a_scanner_that_has_a_file_open_for_a_moment_is_waited_for(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, replace = [PermissionError(13, "Access is denied")] * 2, Path.replace

    def replaced(source: Path, target: Path) -> Path:
        if refused:
            raise refused.pop()
        return replace(source, target)

    monkeypatch.setattr(files, "os", SimpleNamespace(name=system, getpid=lambda: 1))
    monkeypatch.setattr(files.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(Path, "replace", replaced)
    for write in (whole_file, whole_folder):
        refused[:] = [PermissionError(13, "Access is denied")] * 2
        path = tmp_path / write.__name__
        if system == "posix":
            with pytest.raises(UserError, match="Access is denied"), write(path):
                (tmp_path / f".{path.name}.1.tmp").touch()
        else:
            with write(path):
                (tmp_path / f".{path.name}.1.tmp").touch()
            assert path.exists()
    refused[:] = [PermissionError(13, "Access is denied")] * 9
    with pytest.raises(PermissionError):
        rename(tmp_path, tmp_path / "other")


def test_names_that_are_one_on_macos_and_windows_are_folded_alike() -> None:
    assert folded_name("A/IMG.Png") == folded_name(Path("a/img.pNG")) == "a/img.png"
    assert folded_name("caf\u00c9") == folded_name("cafe\u0301")
    assert folded_name("a1") != folded_name("a2")


def _said(number: int) -> int:
    warnings.warn(f"picture {number} is turned", Said, stacklevel=2)
    return number


def test_what_a_process_that_is_started_afresh_says_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(mapped(_said, [1, 2], 2, chunk=1)) == [1, 2]
    said = capfd.readouterr().err.splitlines()
    assert sorted(said) == [f"warning: picture {number} is turned" for number in (1, 2)]


def test_other_warnings_keep_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning) as shown:
        said_as_lines()
        warnings.warn("for who writes the program", stacklevel=1)
        warnings.warn("for a person", Said, stacklevel=1)
    assert [str(one.message) for one in shown] == ["for who writes the program"]
    assert capsys.readouterr().err == "warning: for a person\n"


def test_a_program_from_standard_input_is_told_that_it_cannot_be_started_again() -> None:
    program = "from ducseg.data.processes import mapped; list(mapped(abs, [1, 2], 2, chunk=1))"
    environment = {"PYTHONPATH": str(Path(ducseg.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, env=environment)
    assert "read from standard input" in done.stderr.splitlines()[-1]
