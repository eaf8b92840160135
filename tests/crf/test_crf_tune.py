"""The grid search: its scores are those of refining each picture alone, and nothing is computed twice."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ducseg.classes import CAMVID, ClassSet
from ducseg.crf import CrfParams, dense_crf
from ducseg.crf import tune as module
from ducseg.crf.tune import Grid, tune
from ducseg.data.sample import Sample
from ducseg.errors import UserError
from ducseg.figures.heatmap import best_over_others, draw_heatmap
from ducseg.metrics.boundary import BoundaryCounts
from ducseg.metrics.confusion import ConfusionMatrix, scores

CLASSES = ClassSet(CAMVID.names[:4], CAMVID.palette[:4])
SMALL = Grid(sigma_alpha=(4.0, 12.0), sigma_beta=(20.0,), w1=(1.0, 4.0), w2=(1.0,), iterations=(1, 3))


class Pictures:
    """Three noisy pictures with labels."""

    classes = CLASSES
    ids = ("a", "b/c", "d")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        label = np.kron(rng.integers(0, 4, (3, 4)), np.ones((8, 8))).astype(np.uint8)
        label[0] = 255
        image = np.clip(label[..., None] % 4 * 60 + rng.integers(0, 30, (*label.shape, 3)), 0, 255).astype(np.uint8)
        return Sample(image=image, label=label, id=self.ids[index], original_size=label.shape)


def network(sample: Sample) -> np.ndarray[Any, Any]:
    assert sample.label is not None
    rng = np.random.default_rng(len(sample.id))
    values = np.eye(4)[sample.label % 4].transpose(2, 0, 1) + rng.gamma(0.7, size=(4, *sample.label.shape))
    return (values / values.sum(0)).astype(np.float32)


def search(folder: Path, grid: Grid = SMALL, **source: Any) -> list[module.Row]:
    return tune(folder, Pictures(), range(3), network, grid, source={"network": 1, **source})


def test_rows_are_the_scores_of_each_setting_alone(tmp_path: Path) -> None:
    rows = search(tmp_path)
    assert len(rows) == 1 + 4 * 2
    for row in rows:
        matrix, boundary = ConfusionMatrix(4), BoundaryCounts(4)
        for sample in map(Pictures().__getitem__, range(3)):
            found = network(sample).astype(np.float16)
            if row.params is not None:
                found = dense_crf(found, sample.image, row.params, row.iterations)
            labels = found.argmax(0).astype(np.uint8)
            assert sample.label is not None
            matrix.update(sample.label, labels)
            boundary.update(sample.label, labels)
        assert row.mean_iou == scores(matrix.matrix, CLASSES)["mean_iou"]
        assert row.mean_boundary_iou == boundary.scores(CLASSES)["mean_boundary_iou"]
    assert max(row.mean_iou for row in rows[1:]) > rows[0].mean_iou  # the noise is there to be removed


def test_a_second_search_computes_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(tmp_path)
    asked: list[CrfParams] = []
    real = module.marginals_under_each

    def watched(values: Any, image: Any, settings: Any, iterations: Any, **more: Any) -> Any:
        asked.extend(settings)
        return real(values, image, settings, iterations, **more)

    monkeypatch.setattr(module, "marginals_under_each", watched)
    monkeypatch.setattr(f"{__name__}.network", None)  # not asked again
    assert search(tmp_path) == first
    assert not asked
    larger = Grid(sigma_alpha=(4.0, 12.0), sigma_beta=(20.0,), w1=(1.0, 4.0, 8.0), w2=(1.0,), iterations=(1, 3))
    rows = search(tmp_path, larger)
    assert {params.w1 for params in asked} == {8.0}
    assert [row for row in rows if row.params is None or row.params.w1 != 8] == first


def test_a_folder_keeps_to_one_source(tmp_path: Path) -> None:
    search(tmp_path)
    with pytest.raises(UserError, match="another network"):
        search(tmp_path, network=2)


def test_a_stopped_search_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_bytes

    def full_disk(path: Path, data: bytes) -> int:
        if path.suffixes[:1] != [".npz"]:
            return real(path, data)
        real(path, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(UserError, match="No space left"):
            search(tmp_path)
    assert not list((tmp_path / "counts").iterdir())
    assert len(search(tmp_path)) == 9


def test_too_little_room_is_said_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=512))
    with pytest.raises(UserError, match="of 3 pictures"):
        search(tmp_path)
    assert not (tmp_path / "probabilities").exists()


@pytest.mark.parametrize("wrong", [{"w1": ()}, {"sigma_beta": (0.0,)}, {"iterations": (-1,)}])
def test_a_senseless_grid_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong)) if wrong != {"iterations": (-1,)} else "iterations"):
        Grid(**wrong)


def test_heat_maps_show_the_best_over_the_other_axes(tmp_path: Path) -> None:
    axes = {"a": [1.0, 2.0], "b": [5.0], "c": [0.0, 1.0, 2.0], "d": [3.0, 4.0]}
    points = [{"a": a, "b": 5.0, "c": c, "d": d} for a in axes["a"] for c in axes["c"] for d in axes["d"]]
    values = [0.1 * point["a"] + 0.01 * point["c"] - 0.02 * point["d"] for point in points]
    pairs = best_over_others(axes, points, values)
    assert list(pairs) == [("a", "c"), ("a", "d"), ("c", "d")]
    np.testing.assert_allclose(pairs["a", "c"], [[0.04, 0.05, 0.06], [0.14, 0.15, 0.16]])
    assert draw_heatmap(tmp_path / "map.png", axes, points, values, title="best")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert not draw_heatmap(tmp_path / "none.png", {"a": [1.0, 2.0], "b": [5.0]}, points, values, title="best")
    assert not (tmp_path / "none.png").exists()
