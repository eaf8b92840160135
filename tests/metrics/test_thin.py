"""Scores of thin objects against their definitions, and against scikit-learn's."""

import importlib
import importlib.util
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rich.console import Console

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import UserError
from ducseg.metrics.boundary import BoundaryCounts
from ducseg.metrics.confusion import ConfusionMatrix, to_json
from ducseg.metrics.kitti_road import RoadCounts
from ducseg.metrics.skeleton import skeletons
from ducseg.metrics.thin import WIDTH_BINS, ThinCounts, format_thin_tables
from ducseg.metrics.tolerance import count_within
from ducseg.metrics.widths import local_widths

L = 3
CLASSES = ClassSet(("a", "b", "c"), ((0, 0, 0),) * L)
TWO = ClassSet(("ground", "crack"), ((0, 0, 0),) * 2)


def draw_maps(data: st.DataObject) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    shape = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    blocks = data.draw(arrays(np.uint8, (3, 3), elements=st.sampled_from([0, 1, 2, IGNORE])))
    truth = blocks[np.arange(shape[0]) // 7][:, np.arange(shape[1]) // 7]
    return truth, np.where(data.draw(arrays(bool, shape)), truth % L, data.draw(st.integers(0, L - 1))).astype(np.uint8)


def within_by_definition(source: NDArray[np.uint8], target: NDArray[np.uint8], t: float) -> list[int]:
    counts = [0] * L
    for y, x in np.ndindex(source.shape):
        if source[y, x] != IGNORE:
            ys, xs = np.nonzero(target == source[y, x])
            counts[source[y, x]] += bool(len(ys)) and bool(np.hypot(ys - y, xs - x).min() <= t)
    return counts


@settings(max_examples=25)
@given(st.data())
def test_within_t_pixels_is_the_distance_to_the_nearest(data: st.DataObject) -> None:
    truth, prediction = draw_maps(data)
    tolerances = data.draw(st.sampled_from([(0, 1, 2, 5), (0.5, 1.5, 2.9), (3,)]))
    found = count_within(truth, prediction, tolerances, L)
    assert found.tolist() == [within_by_definition(truth, prediction, t) for t in tolerances]


@settings(max_examples=25)
@given(st.data())
def test_every_score_is_that_of_its_definition(data: st.DataObject) -> None:
    counts, both = ThinCounts(L), []
    for _ in range(data.draw(st.integers(1, 2))):
        truth, prediction = draw_maps(data)
        counts.add(truth, prediction)
        both.append((truth, np.where(truth == IGNORE, IGNORE, prediction).astype(np.uint8)))
    found = counts.scores(CLASSES)["classes"]
    for index, name in enumerate(CLASSES.names):
        score = found[name]

        def share(
            part: Any, whole: Any, swapped: bool = False, of: int = index
        ) -> float:  # of masks M (own), N (other) and the own label map
            right = total = 0
            for pair in both:
                own, other = reversed(pair) if swapped else pair
                right += int((part(own, other) & (own == of)).sum())
                total += int((whole(own) & (own == of)).sum())
            return right / total if total else math.nan

        everything = np.ones_like
        same = lambda own, other: own == other  # noqa: E731
        recall, precision = share(same, everything), share(same, everything, swapped=True)
        assert score["recall"] == pytest.approx(recall, nan_ok=True)
        assert score["precision"] == pytest.approx(precision, nan_ok=True)
        assert score["dice"] == pytest.approx(harmonic(precision, recall), nan_ok=True)
        assert score["within"]["0"] == pytest.approx(
            {"f1": score["dice"], "precision": precision, "recall": recall}, nan_ok=True
        )
        inside = lambda own, other: skeletons(own) & (own == other)  # noqa: E731
        line_recall, line_precision = share(inside, skeletons), share(inside, skeletons, swapped=True)
        assert score["cldice_recall"] == pytest.approx(line_recall, nan_ok=True)
        assert score["cldice"] == pytest.approx(harmonic(line_precision, line_recall), nan_ok=True)
        for label, first in WIDTH_BINS.items():
            wide = lambda own, first=first: local_widths(own, tuple(WIDTH_BINS.values())) == first  # noqa: E731
            right = lambda own, other, wide=wide: wide(own) & (own == other)  # noqa: E731
            assert score["by_width"][label]["recall"] == pytest.approx(share(right, wide), nan_ok=True)
            assert score["by_width"][label]["precision"] == pytest.approx(share(right, wide, True), nan_ok=True)


def harmonic(precision: float, recall: float) -> float:
    if math.isnan(precision) and math.isnan(recall):
        return math.nan
    if not precision > 0 or not recall > 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 16, 1024]))
def test_ranking_scores_are_scikit_learns(seed: int, bins: int) -> None:
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed (make test tries to)")
    metrics = importlib.import_module("sklearn.metrics")
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([0, 1, 1, 0, 0, IGNORE], np.uint8), (2, 13, 17))
    crack = np.clip(rng.normal(0.4 + 0.2 * (truth == 1), 0.25), 0, 1).astype(np.float32)
    counts = ThinCounts(2, bins=bins)
    for label, values in zip(truth, crack):
        counts.add(label, (values >= 0.5).astype(np.uint8), np.stack([1 - values, values]))
    found = counts.scores(TWO)["classes"]["crack"]
    own, binned = truth[truth != IGNORE], np.minimum(np.floor(crack[truth != IGNORE] * bins), bins - 1) / bins
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(own, binned), abs=1e-12)
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(own, binned), abs=1e-12)
    dices = [metrics.f1_score(own, binned >= k / bins) for k in range(bins)] if bins < 100 else [found["best_dice"]]
    assert found["best_dice"] == pytest.approx(max(dices))
    at_best = metrics.f1_score(own, binned >= found["best_threshold"])
    assert at_best == pytest.approx(found["best_dice"])


def test_parts_merge_to_the_whole_also_through_another_process() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, L, (4, 30, 40)).astype(np.uint8)
    prediction = np.where(rng.random(truth.shape) < 0.7, truth, 0).astype(np.uint8)
    probabilities = rng.dirichlet(np.ones(L), truth.shape).transpose(0, 3, 1, 2)
    whole, first, second = ThinCounts(L), ThinCounts(L), ThinCounts(L)
    for index in range(4):
        for counts in (whole, first if index % 2 else second):
            counts.add(truth[index], prediction[index], probabilities[index])
    first.merge(pickle.loads(pickle.dumps(second)))
    assert to_json(first.scores(CLASSES)) == to_json(whole.scores(CLASSES))
    assert whole.within.dtype == whole.skeleton.dtype == whole.width.dtype == whole.ranked.dtype == np.int64


def test_a_shift_by_one_pixel_costs_a_thin_line_everything_and_a_wide_one_little() -> None:
    truth = np.zeros((80, 80), np.uint8)
    truth[10], truth[30:50] = 1, 1
    counts = ThinCounts(2)
    counts.add(truth, np.roll(truth, 1, axis=0))
    crack = counts.scores(TWO)["classes"]["crack"]
    assert crack["by_width"]["1-2"] == {"recall": 0, "precision": 0, "pixels": 80, "predicted": 80}
    assert crack["by_width"]["17+"]["recall"] == pytest.approx(19 / 20, abs=0.01)
    assert crack["by_width"]["3-4"]["pixels"] == 4  # the bar's corners
    assert crack["within"]["1"]["f1"] == 1 > crack["within"]["0"]["f1"] == pytest.approx(19 / 21)


def test_what_is_absent_is_not_a_number_and_what_is_on_one_side_is_zero() -> None:
    truth = np.zeros((9, 9), np.uint8)
    prediction = truth.copy()
    prediction[4] = 1
    counts = ThinCounts(L)
    counts.add(truth, prediction)
    found = counts.scores(CLASSES)
    b, c = found["classes"]["b"], found["classes"]["c"]
    assert (b["dice"], b["cldice"], b["precision"], b["within"]["5"]["f1"]) == (0, 0, 0, 0) and math.isnan(b["recall"])
    assert all(math.isnan(c[key]) for key in ("dice", "cldice", "precision", "recall", "boundary_iou"))
    assert math.isnan(ThinCounts(L).scores(CLASSES)["mean_dice"])
    assert to_json(found)["classes"]["c"]["by_width"]["1-2"]["recall"] is None
    assert "auc" not in b


def test_means_leave_out_a_background_and_what_has_no_score() -> None:
    truth, prediction = np.zeros((2, 9, 9), np.uint8)
    truth[4], prediction[4, :5] = 1, 1
    counts = ThinCounts(L)
    counts.add(truth, prediction)
    for key in ("dice", "cldice"):
        found = counts.scores(CLASSES)
        a, b = (found["classes"][name][key] for name in "ab")
        assert found[f"mean_{key}"] == b < a
        road = ClassSet(CLASSES.names, ((128, 64, 128), *CLASSES.palette[1:]))
        assert counts.scores(road)[f"mean_{key}"] == pytest.approx((a + b) / 2)


def test_what_is_predicted_where_nothing_counts_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, L, (8, 10)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    truth[:, 12:20] = IGNORE
    found = []
    for filler in (0, 2):
        counts = ThinCounts(L)
        prediction = np.where(truth == IGNORE, filler, np.roll(truth % L, 1, 0)).astype(np.uint8)
        counts.add(truth, prediction)
        found.append(to_json(counts.scores(CLASSES)))
    assert found[0] == found[1]


def test_cldice_of_one_picture_is_the_papers() -> None:
    if importlib.util.find_spec("skimage") is None:
        pytest.skip("scikit-image is not installed (make test tries to)")
    skeletonize = importlib.import_module("skimage.morphology").skeletonize
    rng = np.random.default_rng(5)
    truth = np.kron(rng.random((9, 11)) < 0.4, np.ones((5, 4))) > 0
    prediction = np.roll(truth, 1, 1) & (rng.random(truth.shape) < 0.95)
    precision = (skeletonize(prediction) & truth).sum() / skeletonize(prediction).sum()  # T_prec, T_sens of the paper
    sensitivity = (skeletonize(truth) & prediction).sum() / skeletonize(truth).sum()
    counts = ThinCounts(2)
    counts.add(truth.astype(np.uint8), prediction.astype(np.uint8))
    found = counts.scores(TWO)["classes"]["crack"]["cldice"]
    assert found == pytest.approx(2 * precision * sensitivity / (precision + sensitivity), abs=1e-12)


def test_the_boundary_has_the_chosen_width() -> None:
    truth = np.zeros((60, 60), np.uint8)
    truth[20:40, 20:40] = 1
    prediction = np.zeros_like(truth)
    prediction[21:40, 20:40] = 1
    for width, both in ((1, 19 * 20 - 17 * 18 - 18), (3, 19 * 20 - 13 * 14 - 14)):  # their bands, without a lost row
        counts = ThinCounts(2, boundary_width=width)
        counts.add(truth, prediction)
        own = [20 * 20 - (20 - 2 * width) ** 2, 19 * 20 - (19 - 2 * width) * (20 - 2 * width)]
        found = counts.scores(TWO)["classes"]["crack"]["boundary_iou"]
        assert found == pytest.approx(both / (sum(own) - both))


def test_tables_name_every_present_class() -> None:
    counts = ThinCounts(2)
    assert format_thin_tables(counts.scores(TWO)) == []
    truth = np.eye(20, dtype=np.uint8)
    counts.add(truth, truth, np.stack([1 - truth, truth]) * 0.0015 + [[[0.0005]], [[0.9985]]])
    tables = format_thin_tables(counts.scores(TWO))
    assert [len(table.rows) for table in tables] == [2, 2, 2]
    assert "boundary IoU 2 px" in [column.header for column in tables[0].columns]
    assert "AUC" in [column.header for column in tables[1].columns]
    assert list(tables[1].columns[-1].cells) == ["0.001", "0.999"]  # the last of 1024 bins is not from 1.00 on
    console = Console(width=200)
    assert all(console.measure(table).maximum <= 80 for table in tables), "a terminal's 80 columns"


def test_bad_input_is_refused_and_counts_nothing() -> None:
    zeros, counts = np.zeros((4, 4), np.uint8), ThinCounts(2)
    with pytest.raises(UserError, match="value 3"):
        counts.add(zeros, zeros + 3)
    with pytest.raises(UserError, match="shape"):
        counts.add(zeros, zeros[:2])
    with pytest.raises(UserError, match=r"probabilities of x: found shape \(2, 3, 4\)"):
        counts.add(zeros, zeros, np.zeros((2, 3, 4)), name="x")
    for wrong in (1.5, -0.1, math.nan):
        with pytest.raises(UserError, match=r"0\.\.1"):
            counts.add(zeros, zeros, np.full((2, 4, 4), wrong))
    for kind in (np.str_, object, complex):
        with pytest.raises(UserError, match=r"probabilities of x: found type .*real numbers"):
            counts.add(zeros, zeros, np.zeros((2, 4, 4)).astype(kind), name="x")
    assert not counts.pixels.matrix.any() and not counts.ranked.any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_classes": 0},
        {"tolerances": 2},
        {"tolerances": ()},
        {"tolerances": ("a",)},
        {"tolerances": (math.nan,)},
        {"boundary_width": 1.5},
        {"bins": 0},
    ],
)
def test_settings_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        ThinCounts(**{"num_classes": 3, **wrong})


def test_tolerances_in_an_array_are_taken() -> None:
    assert ThinCounts(3, tolerances=np.array([2, 0])).tolerances == (0, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [{"boundary_width": 3}, {"bins": 8}, {"tolerances": (0, 1)}, {"num_classes": 2}])
def test_counts_of_other_settings_are_not_mixed(other: dict[str, Any]) -> None:
    counts, more = ThinCounts(3), ThinCounts(**{"num_classes": 3, **other})
    more.add(np.ones((4, 4), np.uint8), np.ones((4, 4), np.uint8))
    with pytest.raises(UserError, match=r"counts to merge: found .*boundary width"):
        counts.merge(more)
    assert not counts.pixels.matrix.any()
    with pytest.raises(UserError, match="class list: found 1 classes; needed 3"):
        counts.scores(ClassSet(("a",), ((0, 0, 0),)))


def test_tensors_are_taken_as_arrays_are() -> None:
    label, probabilities = np.eye(4, dtype=np.uint8), np.random.default_rng(0).random((2, 4, 4), np.float32)
    arrays, tensors = ThinCounts(2), ThinCounts(2)
    arrays.add(label, label.T, probabilities)
    tensors.add(*map(torch.from_numpy, (label, label.T, probabilities)))
    assert arrays.ranked.any() and np.array_equal(arrays.ranked, tensors.ranked)


def test_probabilities_as_a_network_gives_them_are_taken() -> None:
    """With their gradients, and in bfloat16, of which numpy has none."""
    label, scores = torch.eye(4, dtype=torch.uint8), torch.linspace(-2, 2, 32).reshape(2, 4, 4).requires_grad_()
    for probabilities in (scores.softmax(0), scores.softmax(0).bfloat16(), scores.softmax(0).half()):
        expected, found = ThinCounts(2), ThinCounts(2)
        expected.add(label.numpy(), label.numpy(), probabilities.detach().double().numpy())
        found.add(label, label, probabilities)  # type: ignore[arg-type]
        assert found.ranked.any() and np.array_equal(found.ranked, expected.ranked)
    with pytest.raises(UserError, match=r"label of .*float32"):
        ThinCounts(2).add(label.bfloat16(), label)  # type: ignore[arg-type]


@pytest.mark.parametrize("counts", [ThinCounts(2), ConfusionMatrix(2), BoundaryCounts(2), RoadCounts()])
def test_counts_of_other_kinds_are_not_merged(counts: Any) -> None:
    for other in (ThinCounts(2), ConfusionMatrix(2), BoundaryCounts(2), RoadCounts(), None):
        if type(other) is not type(counts):
            with pytest.raises(UserError, match=f"counts to merge: found a .*needed a {type(counts).__name__}"):
                counts.merge(other)


def test_pixels_within_are_of_two_maps_of_one_size_and_of_classes_that_are() -> None:
    """Else the kernel would read and write beside its arrays."""
    zeros = np.zeros((4, 4), np.uint8)
    for source, target in ((zeros, zeros[:2]), (zeros + 2, zeros), (zeros == 0, zeros)):
        with pytest.raises(UserError, match="label map: found"):
            count_within(source, target, (0, 1), 2)


@pytest.mark.parametrize("tolerances", [(), (2, 1), (-1,)])
def test_tolerances_that_do_not_ascend_are_refused(tolerances: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="tolerances"):
        count_within(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), tolerances, 1)
