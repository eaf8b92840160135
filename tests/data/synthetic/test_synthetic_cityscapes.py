import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ducseg.classes import CITYSCAPES, IGNORE
from ducseg.cli import main
from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.synthetic.cityscapes import Scene, SyntheticStreets, render_scene, write_cityscapes
from ducseg.data.synthetic.scenes.canvas import LABEL_IDS
from ducseg.errors import UserError

WITH_INSTANCES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


def scene(seed: int = 0, height: int = 128, width: int = 256) -> Scene:
    return render_scene(height, width, np.random.default_rng(seed))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_same_seed_writes_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, workers, seed in (("one", 1, 5), ("two", 2, 5), ("other", 1, 6)):
        write_cityscapes(tmp_path / name, num_train=3, num_val=2, height=64, width=96, seed=seed, num_workers=workers)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert files(tmp_path / "one").keys() == files(tmp_path / "other").keys()
    assert files(tmp_path / "one") != files(tmp_path / "other")
    assert len(files(tmp_path / "one")) == 5 * 4


def test_every_class_and_ignored_pixels_occur() -> None:
    labels = [SyntheticStreets(24, height=128, width=256)[index].label for index in range(24)]
    present = [set(np.unique(label)) for label in labels if label is not None]
    counts = {name: sum(index in one for one in present) for index, name in enumerate(CITYSCAPES.names)}
    assert min(counts.values()) >= 2, counts
    assert sum(IGNORE in one for one in present) >= 12


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(48, 150), st.integers(64, 260))
def test_filling_the_polygons_in_order_gives_the_label_map(seed: int, height: int, width: int) -> None:
    drawn = scene(seed, height, width)
    assert drawn.image.shape == (height, width, 3)
    assert drawn.image.dtype == np.uint8
    again = np.zeros((height, width), np.uint8)
    for polygon in drawn.polygons:
        cv2.fillPoly(again, [polygon.points], LABEL_IDS[polygon.label])
    assert np.array_equal(again, drawn.label_ids)


def test_instances_belong_to_their_labels() -> None:
    numbered = {LABEL_IDS[name] for name in WITH_INSTANCES}
    seen = set()
    for seed in range(8):
        drawn = scene(seed)
        single = drawn.instance_ids < 1000
        assert np.array_equal(np.where(single, drawn.instance_ids, drawn.instance_ids // 1000), drawn.label_ids)
        assert not set(np.unique(drawn.label_ids[single])) & numbered
        seen |= set(np.unique(drawn.label_ids[~single]))
    assert seen == numbered


@pytest.mark.parametrize("size", [(96, 192), (256, 512), (512, 1024)])
def test_poles_are_one_to_four_pixels_wide(size: tuple[int, int]) -> None:
    widths = []
    for seed in range(3):
        for polygon in scene(seed, *size).polygons:
            if polygon.label == "pole":
                widths.append(int(np.ptp(polygon.points[:, 0])) + 1)
    assert len(widths) > 10
    assert set(widths) <= {1, 2, 3, 4}
    assert 1 in widths


def test_thin_means_thin_in_the_label_map() -> None:
    """Runs of pole pixels along rows; a few are wider where one pole stands before another."""
    runs: list[int] = []
    for seed in range(6):
        poles = np.pad(scene(seed, 160, 320).label_ids == LABEL_IDS["pole"], ((0, 0), (1, 1))).astype(np.int8)
        starts, ends = (np.argwhere(np.diff(poles, axis=1) == step)[:, 1] for step in (1, -1))
        runs += (ends - starts).tolist()
    assert len(runs) > 1000
    assert np.mean(np.array(runs) <= 4) > 0.99
    assert np.mean(np.array(runs) <= 2) > 0.5


def test_far_people_and_large_vehicles_occur() -> None:
    heights: dict[str, list[int]] = {"person": [], "large": []}
    for seed in range(12):
        drawn = scene(seed)
        for identifier in np.unique(drawn.instance_ids[drawn.instance_ids >= 1000]):
            rows = np.flatnonzero((drawn.instance_ids == identifier).any(1))
            name = {24: "person", 27: "large", 28: "large", 31: "large"}.get(int(identifier) // 1000)
            if name is not None:
                heights[name].append(int(np.ptp(rows)) + 1)
    assert sum(height <= 128 // 10 for height in heights["person"]) >= 6
    assert max(heights["large"]) > 128 // 4


def test_colour_alone_does_not_give_the_class() -> None:
    """The class that a grey value most often has is right for few of the pixels."""
    values, labels = zip(
        *(
            (s.image.mean(2).astype(int), s.label)
            for s in map(SyntheticStreets(12, height=96, width=192).__getitem__, range(12))
        )
    )
    value, label = np.stack(values).ravel(), np.stack(labels).ravel()
    kept = label != IGNORE
    table = np.zeros((256, 19), int)
    np.add.at(table, (value[kept], label[kept]), 1)
    assert (table.argmax(1)[value[kept]] == label[kept]).mean() < 0.6


def test_the_real_loader_reads_what_is_written(tmp_path: Path) -> None:
    assert (
        main(
            [
                "data",
                "synth",
                "cityscapes",
                str(tmp_path / "set"),
                "--num-train",
                "2",
                "--num-val",
                "1",
                "--size",
                "97",
                "203",
            ]
        )
        == 0
    )
    loaded, drawn = Cityscapes(tmp_path / "set", "train"), SyntheticStreets(2, height=97, width=203)
    assert loaded.ids == drawn.ids
    for index in range(2):
        assert np.array_equal(loaded[index].image, drawn[index].image)
        assert np.array_equal(loaded[index].label, drawn[index].label)
    outlines = json.loads(next((tmp_path / "set").rglob("*_polygons.json")).read_text())
    assert (outlines["imgHeight"], outlines["imgWidth"]) == (97, 203)
    assert len(Cityscapes(tmp_path / "set", "val")) == 1


def test_used_folders_and_unknown_splits_are_refused(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, num_train=1, num_val=0, height=48, width=64)
    with pytest.raises(UserError, match="leftImg8bit/ and gtFine/"):
        write_cityscapes(tmp_path, num_train=1, num_val=0)
    (tmp_path / "half" / "gtFine").mkdir(parents=True)
    with pytest.raises(UserError, match="found gtFine/ in it"):
        write_cityscapes(tmp_path / "half", num_train=1, num_val=0)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file"):
        write_cityscapes(tmp_path / "file", num_train=1, num_val=0)
    with pytest.raises(UserError, match="trian"):
        SyntheticStreets(1, height=64, width=64, split="trian")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"height": 20, "width": 64}, r"20x64.*48x64"),
        ({"seed": -1}, "seed: found -1"),
        ({"num_train": -3}, "scenes: found -3 and 1"),
        ({"num_train": 0, "num_val": 0}, "scenes: found 0 and 0"),
        ({"num_workers": 0}, "workers: found 0"),
    ],
)
def test_senseless_numbers_are_refused_before_anything_is_made(
    asked: dict[str, int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        write_cityscapes(tmp_path / "new", **{"num_train": 1, "num_val": 1, "height": 48, "width": 64} | asked)
    assert not (tmp_path / "new").exists()


def test_a_data_set_refuses_sizes_and_seeds_when_it_is_made() -> None:
    with pytest.raises(UserError, match="20x64"):
        SyntheticStreets(1, height=20, width=64)
    with pytest.raises(UserError, match="seed"):
        SyntheticStreets(1, height=64, width=64, seed=-1)
