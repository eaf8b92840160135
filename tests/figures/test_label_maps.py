"""Label PNGs, colours, overlays and legends, read back pixel by pixel."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import CAMVID, CITYSCAPES, IGNORE, VOC2012, ClassSet
from ducseg.errors import UserError
from ducseg.figures.label_maps import as_rgb, colourise, font, legend, overlay, present_classes, write_png

RNG = np.random.default_rng(0)
LABELS = RNG.choice(np.array([0, 3, 8, IGNORE], np.uint8), (40, 700))
IMAGE = RNG.integers(0, 256, (40, 700, 3), np.uint8)


def colours_of(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    codes = np.unique(picture.astype(int) @ [1 << 16, 1 << 8, 1])
    return {(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()}


def test_label_png_holds_the_indices_and_colour_png_rgb(tmp_path: Path) -> None:
    write_png(tmp_path / "new" / "labels.png", LABELS)
    write_png(tmp_path / "new" / "colour.png", colourise(LABELS, CAMVID))
    with Image.open(tmp_path / "new" / "labels.png") as labels, Image.open(tmp_path / "new" / "colour.png") as colour:
        assert (labels.mode, colour.mode) == ("L", "RGB")
        assert np.array_equal(np.asarray(labels), LABELS)
        assert np.array_equal(np.asarray(colour), colourise(LABELS, CAMVID))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["colour.png", "labels.png"]


def test_colours_are_the_palettes_and_unknown_is_black() -> None:
    coloured = colourise(LABELS, CAMVID)
    for index in (0, 3, 8):
        assert (coloured[index == LABELS] == CAMVID.palette[index]).all()
    assert (coloured[LABELS == IGNORE] == 0).all()
    assert present_classes(LABELS, CAMVID) == [0, 3, 8]
    with pytest.raises(UserError, match=r"value 11; needed 0\.\.10"):
        colourise(np.full((2, 2), 11, np.uint8), CAMVID)


def test_overlay_tints_classes_and_leaves_the_unknown() -> None:
    made = overlay(IMAGE, LABELS, CAMVID)
    assert made.dtype == np.uint8
    picture, strip = made[:40], made[40:]
    assert np.array_equal(picture[LABELS == IGNORE], IMAGE[LABELS == IGNORE])
    for index in (0, 3, 8):
        where = index == LABELS
        expected = 0.45 * IMAGE[where] + 0.55 * np.array(CAMVID.palette[index])
        assert np.abs(picture[where] - expected).max() <= 1
    colours = colours_of(strip)
    assert {CAMVID.palette[index] for index in (0, 3, 8)} <= colours
    assert CAMVID.palette[1] not in colours, "the legend shows what is there"


def test_overlay_leaves_the_background_clear() -> None:
    made = overlay(IMAGE, LABELS, VOC2012)
    clear = (LABELS == 0) | (LABELS == IGNORE)
    assert (LABELS == 0).any() and np.array_equal(made[:40][clear], IMAGE[clear])
    tinted = 0.45 * IMAGE[LABELS == 3] + 0.55 * np.array(VOC2012.palette[3])
    assert np.abs(made[:40][LABELS == 3] - tinted).max() <= 1
    assert np.array_equal(
        made[40:], legend([(VOC2012.names[index], VOC2012.palette[index]) for index in (3, 8)], IMAGE.shape[1])
    )
    assert (VOC2012.background, CAMVID.background) == (0, None)
    assert ClassSet(("all",), ((0, 0, 0),)).background is None


def test_nothing_known_has_no_legend() -> None:
    made = overlay(IMAGE, np.full((40, 700), IGNORE, np.uint8), CAMVID)
    assert np.array_equal(made, IMAGE)


@pytest.mark.parametrize("width", [1, 20, 128, 480, 1024, 2048, 6000])
def test_every_name_is_drawn_whole_at_any_width(width: int) -> None:
    entries = list(zip(CITYSCAPES.names, CITYSCAPES.palette))
    strip = legend(entries, width)
    assert strip.shape[1] >= width
    assert strip.shape[1] == width or width < 200, "only narrow pictures need a wider strip"
    found = colours_of(strip)
    assert set(CITYSCAPES.palette) <= found, "a swatch for each class"
    assert (strip[:, 0] == 255).all() and (strip[:, -1] == 255).all(), "no ink at the edges"
    assert (strip[0] == 255).all() and (strip[-1] == 255).all()


def test_a_long_name_widens_the_strip_and_accents_have_letters() -> None:
    name = "façade und Straßenbahnhaltestelle " * 3
    strip = legend([(name, (1, 2, 3))], 50)
    assert strip.shape[1] > font(12).getlength(name)
    missing = bytes(font(20).getmask("\uffff"))
    assert all(bytes(font(20).getmask(letter)) != missing for letter in "éßдφñ")


def test_more_classes_than_fit_in_a_row_wrap() -> None:
    many = ClassSet(tuple(f"class {index}" for index in range(150)), tuple((index, 1, 2) for index in range(150)))
    strip = legend(list(zip(many.names, many.palette)), 480)
    assert set(many.palette) <= colours_of(strip)


def test_a_refused_write_says_where_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"output .*labels\.png"):
        write_png(tmp_path / "file" / "labels.png", LABELS)
    (tmp_path / "labels.png").mkdir()
    with pytest.raises(UserError, match=r"labels\.png"):
        write_png(tmp_path / "labels.png", LABELS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "labels.png"]


def test_an_existing_file_is_replaced_only_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.png"
    write_png(path, LABELS)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        write_png(path, np.zeros_like(LABELS))
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), LABELS)
    assert [file.name for file in tmp_path.iterdir()] == ["labels.png"]


def test_pictures_of_other_channels_and_types_are_stretched_to_be_seen() -> None:
    assert as_rgb(IMAGE) is IMAGE
    ramp = np.linspace(1000, 5000, 4000).astype(np.uint16).reshape(40, 100, 1)
    grey = as_rgb(ramp)
    assert grey.shape == (40, 100, 3) and grey.dtype == np.uint8
    assert (grey[..., 0] == grey[..., 2]).all() and (grey.min(), grey.max()) == (0, 255)
    assert (np.diff(grey[..., 0].ravel().astype(int)) >= 0).all()
    assert as_rgb(np.zeros((3, 4, 9), np.float32)).tolist() == np.zeros((3, 4, 3)).tolist()
    assert overlay(ramp, np.full((40, 100), IGNORE, np.uint8), CAMVID)[:40, :100].tolist() == grey.tolist()
