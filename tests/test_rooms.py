"""`import ducseg` alone reaches the rooms, and imports none of them."""

import subprocess
import sys

import pytest

import ducseg

SCRIPT = """
import sys, ducseg
assert "torch" not in sys.modules
ducseg.ops.check, ducseg.models.build, ducseg.crf.dense_crf, ducseg.weights.load_segmenter
"""


def test_rooms_are_there_without_imports_of_their_own() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


@pytest.mark.parametrize("name", ["nothing", "_nothing", "__wrapped__", "óps"])
def test_what_is_no_room_is_no_attribute(name: str) -> None:
    assert not hasattr(ducseg, name)
