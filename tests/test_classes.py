"""Lists of classes: what they say is taken, and nothing is made of what they do not say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ducseg.classes import CLASS_SETS, ClassSet
from ducseg.errors import UserError

COLOURS: list[Any] = [
    "255", [1.0, 0.2, 0.0], [0, 0, 0.9], [True, False, True], ["1", "2", "3"], [1, 2], [1, 2, 3, 4], [0, 0, 256],
    [0, -1, 0], None, 7, {"r": 1, "g": 2, "b": 3}, [None, 0, 0], [float("nan"), 0, 0], [[1], 2, 3],
]  # fmt: skip
NAMES: list[Any] = [None, ["x"], {}, 5, True, "", " ", "\t", "a\nb", "a\n", "a\u2028b"]


@pytest.mark.parametrize(
    "entry", [{"name": "road", "color": one} for one in COLOURS] + [{"name": one, "color": [1, 2, 3]} for one in NAMES]
)
def test_what_is_no_name_or_colour_is_refused_and_named(entry: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps([{"name": "ground", "color": [0, 0, 0]}, entry]))
    with pytest.raises(UserError, match=r"classes\.json: found an entry that does not read") as error:
        ClassSet.read(file)
    assert json.dumps(entry)[:100] in str(error.value)
    colour = entry["color"]
    with pytest.raises(UserError, match=r"class (names|colours): found"):
        ClassSet((entry["name"],), (tuple(colour) if isinstance(colour, list) else colour,))


@pytest.mark.parametrize("names", [["a", ""], ["a", None], ["a", 3], [" "], [{"name": "b\nc"}]])
def test_names_alone_are_names_too(names: list[Any], tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(names))
    with pytest.raises(UserError, match="an entry that does not read"):
        ClassSet.read(tmp_path / "classes.json")


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=255), st.booleans())
def test_what_is_written_is_read(palette: list[tuple[int, int, int]], whole_floats: bool) -> None:
    """Tables write whole numbers as 255.0; numpy has its own."""
    classes = ClassSet(tuple(f"name {n}" for n in range(len(palette))), tuple(tuple(np.uint8(one)) for one in palette))
    entries = [{**one, "color": [float(v) if whole_floats else v for v in one["color"]]} for one in classes.to_json()]
    again = ClassSet.from_json(json.loads(json.dumps(entries)))
    assert again == classes
    assert all(type(value) is int for colour in again.palette for value in colour)


@pytest.mark.parametrize("name", CLASS_SETS)
def test_our_own_are_read(name: str) -> None:
    assert ClassSet.from_json(CLASS_SETS[name].to_json()) == CLASS_SETS[name]
