"""Figures 1 to 7 from small networks and drawn pictures: they are files of their kind, and hold what they say."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ducseg.classes import CAMVID, CITYSCAPES, KITTI_ROAD
from ducseg.cli import main
from ducseg.data.config import DataConfig
from ducseg.errors import UserError
from ducseg.figures.architecture import shortened
from ducseg.figures.confusable import confusable, hatches
from ducseg.figures.road_overlay import road_in_red
from ducseg.figures.sheet import draw_sheet
from ducseg.inference.examples import Example, most_different
from ducseg.inference.outline import outline_of
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Networks "bilinear" and "duc", trained on nothing but with a data set of drawn scenes on record, and pictures."""
    folder = tmp_path_factory.mktemp("figures")
    torch.manual_seed(0)
    data = DataConfig(dataset="synthetic", synthetic_scenes=(2, 4), synthetic_size=(64, 128))
    for head, dilation in (("bilinear", "dilated"), ("duc", "bigger")):
        network = build(encoder="resnet18", width=4, head=head, dilation=dilation, aspp=0, classes=CITYSCAPES)
        save_segmenter(folder / head, network, extra={"config": {"data": vars(data)}})
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 255, (64, 96, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), noise)
    yield folder


def picture(path: Path) -> np.ndarray:
    """RGB."""
    return cv2.imread(str(path))[..., ::-1]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["panels", "patches", "road", "crf"])
def test_every_figure_draws_networks_on_their_data_set_or_on_pictures(command: str, folder: Path) -> None:
    both = [str(folder / name) for name in ("bilinear", "duc")]
    out, drawn = folder / f"{command}.pdf", folder / f"{command}.png"
    assert main(["figure", command, *both, "--out", str(out), "--count", "2", "--device", "cpu"]) == 0
    assert out.read_bytes().startswith(b"%PDF")
    given = ["--pictures", str(folder / "0.png"), str(folder / "1.png")]
    assert main(["figure", command, both[1], "--out", str(drawn), *given, "--width", "3.5", "--device", "cpu"]) == 0
    assert picture(drawn).shape[1] == 1050, "3.5 inches of 300 dots"


@pytest.mark.slow
def test_figures_of_the_network_alone(folder: Path) -> None:
    both = [str(folder / name) for name in ("bilinear", "duc")]
    assert main(["figure", "gridding", *both, "--out", str(folder / "f2.svg")]) == 0
    text = (folder / "f2.svg").read_text()
    assert ">bilinear</text>" in text and ">duc</text>" in text, "letters stay letters"
    assert "49 x 49, 26%" in text
    assert main(["figure", "architecture", both[1], "--out", str(folder / "f1.svg"), "--size", "64", "128"]) == 0
    text = (folder / "f1.svg").read_text()
    for word in ("picture", "res5", "8 x 16", "rates 5 9", "shuffle by 8", "1216"):
        assert f">{word}</text>" in text, word


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pictures", "{0}", "--split", "val"], ["--pictures and --split", "Leave one out"]),
        (["--titles", "a", "b"], ["titles a, b", "a title each"]),
        (["--width", "0"], ["--width", "1 to 100 inches"]),
        (["--names", "nobody"], ["nobody", "--names"]),
        (["--count", "0"], ["--count"]),
        (["--out", "{0}.bmp", "--count", "1"], ["the suffix .bmp", "--out"]),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    arguments: list[str], words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.replace("{0}", str(folder / "0.png")) for argument in arguments]
    assert main(["figure", "panels", str(folder / "duc"), "--out", str(folder / "x.png"), *given]) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error


def test_classes_that_look_alike_to_the_colour_blind_are_hatched_apart() -> None:
    assert confusable((200, 60, 60), (110, 100, 50)), "red and olive, to one who lacks red"
    assert not confusable((255, 255, 255), (0, 0, 0)) and not confusable((0, 114, 178), (230, 159, 0))
    for classes in (CITYSCAPES, CAMVID):
        found = hatches(classes.palette)
        assert found[0] == ""
        for index, colour in enumerate(classes.palette):
            for before in range(index):
                if found[before] == found[index]:
                    assert not confusable(classes.palette[before], colour)


def test_a_sheet_holds_its_panels_at_their_places_and_a_legend(tmp_path: Path) -> None:
    image = np.full((40, 60, 3), (10, 200, 30), np.uint8)
    labels = np.full((40, 60), 3, np.uint8)
    labels[:, 30:] = 255
    drawn = picture(draw_sheet(tmp_path / "s.png", [[image, labels]] * 2, CAMVID, titles=["input", "truth"], width=4))
    assert drawn.shape[1] == 1200
    middle = drawn[drawn.shape[0] // 3]
    assert (middle[300] == (10, 200, 30)).all()
    assert (middle[750] == CAMVID.palette[3]).all() and (middle[1100] == 0).all()
    assert (drawn[-25:] == CAMVID.palette[3]).all(2).any(), "the legend"
    with pytest.raises(UserError, match="rows of as many panels"):
        draw_sheet(tmp_path / "s.png", [[image], [image, labels]], CAMVID)


def test_hatches_are_drawn_only_on_the_class_that_has_one(tmp_path: Path) -> None:
    classes = KITTI_ROAD.__class__(("a", "b", "c"), ((200, 60, 60), (110, 100, 50), (255, 255, 255)))
    labels = np.repeat(np.arange(3, dtype=np.uint8), 30)[None].repeat(40, 0)
    drawn = picture(draw_sheet(tmp_path / "s.png", [[labels]], classes, width=3))
    panel = drawn[20:380]
    colours = [len(np.unique(panel[:, left : left + 200].reshape(-1, 3), axis=0)) for left in (50, 350, 650)]
    assert colours[0] == colours[2] == 1 < colours[1]


def test_patches_are_where_networks_differ() -> None:
    one = np.zeros((60, 80), np.uint8)
    other = one.copy()
    other[30:50, 40:60] = 1
    image = np.zeros((60, 80, 3), np.uint8)
    example = Example(name="x", image=image, truth=None, labels={"a": one, "b": other})
    assert most_different(example, 20) == (30, 40)
    assert most_different(example, 500) == (0, 0)
    top, left = most_different(Example(name="x", image=image, truth=None, labels={"b": other}), 16)
    assert 24 <= top <= 50 and 30 <= left <= 60, "a corner of the square"


def test_the_edge_of_the_road_is_white_inside_it() -> None:
    road = np.zeros((20, 30), bool)
    road[10:, 5:25] = True
    shown = road_in_red(np.zeros((20, 30, 3), np.uint8), road, edge=2)
    assert (shown[10:12, 5:25] == 255).all() and (shown[:, 5:7][10:] == 255).all()
    assert (shown[13:, 8:22] == (128, 0, 0)).all() and not shown[~road].any()


def test_rates_are_written_short() -> None:
    assert shortened((1, 2, 5, 9) * 5 + (1, 2, 5)) == "1 2 5 9 (5 x),\n1 2 5"
    assert shortened((2,) * 23) == "2 (23 x)"
    assert shortened((5, 9, 17)) == "5 9 17"
    assert shortened((1, 2, 3, 1, 2, 3, 2, 2)) == "1 2 3 (2 x),\n2 2"


@pytest.mark.slow
def test_the_outline_is_what_is_built() -> None:
    network = build(encoder="resnet18", width=4, head="duc", num_classes=5, cell=2, aspp=2, dilation="rf")
    maps = {one.name: one for one in outline_of(network, (64, 96))}
    assert list(maps) == ["picture", "stem", "res2", "res3", "res4", "res5", "scores", "probabilities"]
    assert (maps["res4"].channels, maps["res4"].height, maps["res4"].width, maps["res4"].rates) == (16, 8, 12, (2, 2))
    assert (maps["scores"].channels, maps["scores"].rates) == (5 * 16, (6, 12))
    assert maps["probabilities"].how == "shuffle by 4\nbilinear by 2"
    with pytest.raises(UserError, match="multiples of 8"):
        outline_of(network, (60, 96))


@pytest.mark.slow
def test_the_outline_of_a_pyramid_joins_the_finer_maps_and_the_picture() -> None:
    network = build(encoder="mobilenet_v2", head="pyramid", num_classes=2, output_stride=32, dilation="none", aspp=0)
    maps = {one.name: one for one in outline_of(network, (64, 96))}
    joins = {name: set(one.joins) for name, one in maps.items() if one.kind == "head"}
    assert joins == {
        "steps 4": {"res4"}, "steps 3": {"res3"}, "steps 2": {"res2"}, "steps 1": {"picture", "stem"},
    }  # fmt: skip
    assert (maps["steps 1"].height, maps["scores"].channels) == (32, 8)
