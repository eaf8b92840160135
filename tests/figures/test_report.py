"""Reports from run folders made by hand: what is shown, of one run and of two, and what is missing."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ducseg.classes import ClassSet, Colour
from ducseg.errors import UserError
from ducseg.figures.errors_overlay import MISS, draw_errors, wrong_colour
from ducseg.figures.evaluation_folder import (
    Evaluated,
    Shown,
    pick_pictures,
    read_evaluations,
    read_samples,
    write_evaluation,
    write_sample,
)
from ducseg.figures.report import write_report
from ducseg.figures.run_results import RunResults
from ducseg.metrics.confusion import ConfusionMatrix, scores
from ducseg.metrics.intervals import overlap
from ducseg.metrics.thin import ThinCounts

CRACKS = ClassSet(("ground", "crack"), ((0, 0, 0), (255, 255, 255)))
SCENES = ClassSet(("road", "pole", "sky"), ((128, 64, 128), (153, 153, 153), (70, 130, 180)))


def make_run(folder: Path, classes: ClassSet = CRACKS, *, rate: float = 0.1, stored: bool = True) -> Path:
    """A run folder as training and `eval --store` leave it, of three pictures."""
    folder.mkdir(parents=True)
    config = {"name": "custom", "data": {"dataset": "folder", "val_split": "val"}, "optimizer": {"learning_rate": rate}}
    (folder / "config.json").write_text(json.dumps(config))
    lines: list[dict[str, Any]] = [
        {"kind": "step", "step": step, "loss": 1 / step, "learning_rate": rate / step} for step in range(1, 9)
    ]
    lines.append({"kind": "evaluation", "step": 8, "mean_iou": 0.5})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = evaluated(classes)
    plain = {key: value for key, value in found.scores.items() if key != "thin"}
    best = folder / "checkpoints" / "step-0000008"
    best.mkdir(parents=True)
    extra = {"step": 8, "command": "ducseg train custom --data.root X", "ducseg": "0.1.0", "machine": "one <core>"}
    model = {"classes": classes.to_json(), "metrics": plain, "extra": extra}
    (best / "model.json").write_text(json.dumps(model))
    (folder / "best").write_text("checkpoints/step-0000008\n")  # where the file system has no links
    if stored:
        write_evaluation(folder, "val", found)
        for step in (4, 8):
            shown = found.shown[0]
            write_sample(
                folder, 0, step, name=shown.id, image=shown.image, truth=shown.truth, prediction=shown.prediction
            )
    return folder


def evaluated(classes: ClassSet) -> Evaluated:
    rng = np.random.default_rng(len(classes))
    thin, total, shown, picture_iou = ThinCounts(len(classes)), ConfusionMatrix(len(classes)), [], {}
    overlaps = {}
    for index in range(3):
        truth = np.zeros((40, 60), np.uint8)
        truth[20:22], truth[:, 10 * index : 10 * index + 4] = 1, len(classes) - 1
        truth[:2] = 255
        prediction = np.where(rng.random(truth.shape) < 0.1 * index, 0, truth % 255).astype(np.uint8)
        counts = ConfusionMatrix(len(classes))
        counts.update(truth, prediction)
        total.merge(counts)
        overlaps[f"p{index}"] = overlap(counts.matrix)
        thin.add(truth, prediction)
        picture_iou[index] = scores(counts.matrix, classes)["mean_iou"]
        image = rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)
        shown.append((index, image, truth, prediction))
    chosen = dict(pick_pictures(picture_iou, each=1))
    return Evaluated(
        scores=scores(total.matrix, classes) | {"thin": thin.scores(classes)},
        matrix=total.matrix,
        classes=classes,
        picture_iou={f"p{index}": iou for index, iou in picture_iou.items()},
        overlaps=overlaps,
        shown=tuple(
            Shown(id=f"p{i}", kind=chosen[i], mean_iou=picture_iou[i], image=image, truth=truth, prediction=prediction)
            for i, image, truth, prediction in shown
            if i in chosen
        ),
        about={"split": "val"},
    )


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_what_is_stored_is_read_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    written, read = evaluated(CRACKS), read_evaluations(run)["val"]
    assert np.array_equal(read.matrix, written.matrix)
    assert read.classes == CRACKS
    assert read.overlaps.keys() == {"p0", "p1", "p2"}
    assert all(np.array_equal(read.overlaps[name], counts) for name, counts in written.overlaps.items())
    assert [one.id for one in read.shown] == [one.id for one in written.shown] == ["p1", "p2"]
    for one, other in zip(read.shown, written.shown):
        assert np.array_equal(one.truth, other.truth) and np.array_equal(one.prediction, other.prediction)
        assert one.image.shape == other.image.shape
    (followed,) = read_samples(run)
    assert (followed.id, list(followed.predictions)) == ("p1", [4, 8])
    assert not [path for path in run.rglob("*") if "tmp" in path.name]


def test_a_score_that_was_made_in_another_way_is_said_to_be(tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other")
    for look, way in (
        ({"scales": [1.0], "flip": False}, ""),
        ({"scales": [0.25], "flip": False, "crf": [], "bf16": True}, "at scale 0.25, with the CRF, in bf16"),
        ({"scales": [0.5, 1.0], "flip": True}, "at scales 0.5, 1, mirrored"),
    ):
        write_evaluation(run, "val", replace(evaluated(CRACKS), about={"split": "val", **look}))
        assert RunResults.read(run).how_scored == way
    assert f"over 2 classes, {way}" in write_report([run], tmp_path / "page.html").read_text()
    config = json.loads((other / "config.json").read_text())
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config | {"run": {"eval_bf16": True}}))
    assert RunResults.read(tmp_path / "plain").how_scored == ""  # nothing is scored yet
    metrics = replace(RunResults.read(tmp_path / "plain"), model={"metrics": evaluated(CRACKS).scores})
    assert metrics.how_scored == "in bf16"
    pages = write_report([run, other], tmp_path / "pages.html").read_text()
    assert ">scored<" in pages and way in pages
    assert ">scored<" not in write_report([other], tmp_path / "page.html").read_text()


def test_a_list_of_names_names_its_split(tmp_path: Path) -> None:
    assert write_evaluation(tmp_path, "lists/held out.txt", evaluated(CRACKS)).name == "held out"
    assert list(read_evaluations(tmp_path)) == ["held out"]


def test_of_a_large_picture_the_middle_is_followed(tmp_path: Path) -> None:
    image = np.zeros((600, 1030, 3), np.uint8)
    labels = np.arange(1030).repeat(600).reshape(1030, 600).T.astype(np.uint8)
    write_sample(tmp_path, 0, 1, name="x", image=image, truth=labels, prediction=labels)
    (followed,) = read_samples(tmp_path)
    assert np.array_equal(followed.truth, labels[44:556, 259:771])


def test_the_worst_and_the_middle_pictures_are_picked() -> None:
    ious = {10: 0.9, 11: 0.1, 12: 0.5, 13: 0.3, 14: float("nan"), 15: 0.7, 16: 0.8}
    assert pick_pictures(ious, each=2) == [(11, "worst"), (13, "worst"), (12, "median"), (15, "median")]
    assert pick_pictures({1: 0.5, 2: 0.1, 3: 0.7}) == [(2, "worst"), (1, "median")]
    assert pick_pictures({1: 0.5}) == [(1, "worst")]
    assert pick_pictures({}) == []


def test_one_run_is_shown_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path / "cracks")
    (run / "plan.txt").write_text("cell: 1, since cracks are 3 px wide\n")
    page = write_report([run], tmp_path / "r.html").read_text()
    assert headings(page) == [
        "At a glance", "Plan", "Classes", "By width", "Pictures of val", "Predictions while training",
        "Confusion, cracks", "Curves", "Settings", "Next",
    ]  # fmt: skip
    for said in (
        "since cracks are 3 px wide", "IoU of crack", "crack, missed", "false alarm: no crack", "after step 4",
        "closer, where most is wrong",
        "optimizer.learning-rate", "one &lt;core&gt;", "ducseg train custom --data.root X",
        "was taken for",
    ):  # fmt: skip
        assert said in page, said
    assert not re.search(r'(src|href)=(?!"data:)|url\(|@import|<script', page), "something would be fetched or run"


def test_many_classes_are_shown_in_their_colours(tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "scenes", SCENES)], tmp_path / "r.html").read_text()
    assert "rgb(153, 153, 153)" in page
    assert "the prediction" in page and "false alarm" not in page


def test_of_two_runs_the_differences_are_shown(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name / "run", rate=rate) for name, rate in (("a", 0.1), ("b", 0.2))]
    page = write_report(runs, tmp_path / "r.html").read_text()
    (differs,) = re.findall(r"<h2>What differs</h2>(.*?)</section>", page)
    assert re.findall(r"<td>(.*?)</td>", differs) == ["optimizer.learning-rate", "0.1", "0.2"]
    assert "a/run" in page and "b/run" in page
    assert '<td class="good">+0.0' in page


def test_of_two_runs_on_the_same_pictures_doubt_is_shown(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    page = write_report(runs, tmp_path / "r.html").read_text()
    assert "b beside a: mean IoU +0.0 to +0.0 in 95 % of 1000 resamples of the 3 pictures, the same for both.<" in page
    path = runs[1] / "evaluation" / "val" / "scores.json"
    stored = json.loads(path.read_text())
    for counts in stored["overlaps"].values():  # a third of the crack is lost, as ground
        (_, right), true, predicted = counts
        lost = right // 3
        counts[:] = [[counts[0][0], right - lost], true, [predicted[0] + lost, predicted[1] - lost]]
    path.write_text(json.dumps(stored))
    page = write_report(runs, tmp_path / "r.html").read_text()
    assert re.search(r"the same for both; worse: ground -\d+\.\d to -\d+\.\d, crack -\d+\.\d to -\d+\.\d\.<", page)
    del stored["overlaps"]["p0"]
    path.write_text(json.dumps(stored))
    assert "the same for both" not in write_report(runs, tmp_path / "r.html").read_text()
    del stored["overlaps"]  # as older versions stored it
    path.write_text(json.dumps(stored))
    assert "the same for both" not in write_report(runs, tmp_path / "r.html").read_text()


@pytest.mark.parametrize("other", ["data", "classes"])
def test_no_difference_between_scores_of_different_things(tmp_path: Path, other: str) -> None:
    more = ClassSet((*SCENES.names[:2], "car", "bus"), (*SCENES.palette[:2], (0, 0, 142), (0, 60, 100)))
    runs = [make_run(tmp_path / "a", SCENES), make_run(tmp_path / "b", more if other == "classes" else SCENES)]
    if other == "data":
        path = runs[1] / "evaluation" / "val" / "scores.json"
        stored = json.loads(path.read_text())
        stored["scores"]["classes"]["pole"]["pixels"] += 1
        path.write_text(json.dumps(stored))
    page = write_report(runs, tmp_path / "r.html").read_text()
    assert not re.search(r">[+-]\d", page)
    reason = {"data": "they were scored on different data", "classes": "their classes are not the same"}[other]
    assert f"b: no difference to a, for {reason}." in page


def test_what_scores_are_of_is_said(tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "scenes", SCENES)], tmp_path / "r.html").read_text()
    assert "boundary IoU 2 px" in page and "mean clDice, %" in page
    black = ClassSet(SCENES.names, ((0, 0, 0), *SCENES.palette[1:]))
    run = make_run(tmp_path / "objects", black)
    scores = {name: one["cldice"] for name, one in evaluated(black).scores["thin"]["classes"].items()}
    mean = 100 * (scores["pole"] + scores["sky"]) / 2
    assert (
        f"<b>{mean:.1f}</b><span>mean clDice without background, %"
        in write_report([run], tmp_path / "o.html").read_text()
    )


@pytest.mark.parametrize("sky", [(70, 130, 180), (235, 150, 10)])
def test_wrong_pixels_are_not_of_a_class_s_colour(tmp_path: Path, sky: Colour) -> None:
    classes = ClassSet(SCENES.names, (*SCENES.palette[:2], sky))
    wrong = wrong_colour(classes.palette)
    assert (wrong == MISS) == (sky == (70, 130, 180))
    page = write_report([make_run(tmp_path / "run", classes)], tmp_path / "r.html").read_text()
    assert f'background:rgb{wrong}"></i>wrong, on the grey picture' in page
    truth, prediction = np.zeros((1, 2), np.uint8), np.array([[0, 1]], np.uint8)
    drawn = draw_errors(np.zeros((1, 2, 3), np.uint8), truth, prediction, None, wrong=wrong)
    assert drawn.tolist() == [[[0, 0, 0], list(wrong)]]


def test_a_young_run_and_one_without_evaluation_are_shown(tmp_path: Path) -> None:
    young = tmp_path / "young"
    young.mkdir()
    (young / "config.json").write_text('{"name": "custom", "data": {}}')
    for log in (None, "", '{"kind": "st'):
        if log is not None:
            (young / "log.jsonl").write_text(log)
        assert "Nothing is scored yet" in write_report([young], tmp_path / "r.html").read_text()
    page = write_report([make_run(tmp_path / "plain", stored=False)], tmp_path / "r.html").read_text()
    assert headings(page) == ["At a glance", "Classes", "Curves", "Settings", "Next"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for runs, said in (([], "none"), ([run, run], "twice"), ([tmp_path], "config.json")):
        with pytest.raises(UserError, match=said):
            write_report(runs, tmp_path / "r.html")
    (run / "evaluation" / "val" / "scores.json").write_text("{")
    with pytest.raises(UserError, match="run"):
        write_report([run], tmp_path / "r.html")
    make_run(tmp_path / "holes")
    (tmp_path / "holes" / "evaluation" / "val" / "0.jpg").unlink()
    with pytest.raises(UserError, match=r"0\.jpg"):
        write_report([tmp_path / "holes"], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
