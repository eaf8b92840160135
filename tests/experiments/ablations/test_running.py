"""Rows are run once: skipped when finished, shared by tables, taken up after a kill, never reused for other settings.

What trains is slow.
"""

import dataclasses
import json
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ducseg.cli import main
from ducseg.data.config import DataConfig
from ducseg.experiments.ablations import running
from ducseg.experiments.ablations.identity import differing, identity, key_of
from ducseg.experiments.ablations.jobs import Job, make_jobs
from ducseg.experiments.ablations.ours import ours
from ducseg.experiments.ablations.page import spread
from ducseg.experiments.ablations.results import Results, claimed
from ducseg.experiments.ablations.rows import changed
from ducseg.experiments.ablations.running import Running, run_jobs, score_widths
from ducseg.experiments.ablations.small import Setting
from ducseg.experiments.ablations.tables import TABLES
from ducseg.train.config import Config

SYNTHETIC = Setting(data="synthetic", root=None, small=True)


def tiny(config: Config) -> Config:
    """Two steps on two small scenes."""
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, width=8),
        data=dataclasses.replace(config.data, synthetic_scenes=(4, 1), synthetic_size=(48, 64), workers=0),
        augment=dataclasses.replace(config.augment, crop_size=(32, 32)),
        optimizer=dataclasses.replace(config.optimizer, epochs=1, batch_size=2),
        run=dataclasses.replace(config.run, device="cpu", threads=1, bf16=False),
    )


def jobs_of(
    table: str, *names: str, seeds: Sequence[int] = (0,), override: Callable[[Config], Config] = tiny
) -> list[Job]:
    rows = [row for row in TABLES[table].rows if row.name in names]
    return make_jobs(TABLES[table], rows, SYNTHETIC, seeds, override, Path("runs"))[0]


def run(jobs: Sequence[Job], out: Path) -> list[str]:
    """The rows that were trained or scored."""
    said: list[str] = []
    ran = run_jobs(jobs, Results(out), Running(say=said.append))
    assert not ran.failed and not ran.busy and ran.stopped_by is None
    return [line for line in said if "has mean IoU" in line]


@pytest.mark.slow
def test_a_row_is_run_once_and_what_it_was_made_by_is_on_record(tmp_path: Path) -> None:
    jobs = jobs_of("testing", "duc", "flip", seeds=(0, 1))
    assert len(jobs) == 2, "two seeds; the mirrored row has no training of its own"
    assert len(run(jobs, tmp_path)) == 4 and run(jobs, tmp_path) == []
    lines = Results(tmp_path).lines()
    assert [(line["row"], line["seed"]) for line in lines] == [("duc", 0), ("flip", 0), ("duc", 1), ("flip", 1)]
    line = lines[0]
    assert line["made_by"] == identity(jobs[0].config) and line["key"] == key_of(line["made_by"])
    assert line["steps"] == 2 and line["seconds"] > 0 and line["parameters"] > 1000 and line["device"] == "cpu"
    assert line["scores"]["classes"]["pole"].keys() == {"iou", "pixels"}
    assert {"commit", "machine", "torch", "python", "finished"} <= line.keys()
    assert lines[1]["scores"] != line["scores"], "mirroring changes something"
    assert not list(tmp_path.glob("runs/*/checkpoints/*/train_state.pt")), "a finished run does not go on"
    assert run(jobs_of("heads", "duc-8", seeds=(0, 1)), tmp_path) == [], "the same row of another table"


def test_other_settings_are_another_row_and_the_table_says_so(tmp_path: Path) -> None:
    def longer(config: Config) -> Config:
        config = tiny(config)
        return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, epochs=2))

    (job,), (changed,) = jobs_of("deconv", "duc"), jobs_of("deconv", "duc", override=longer)
    results, rows = Results(tmp_path), [TABLES["deconv"].rows[0]]
    results.add(line_of(job))
    assert job.without_result(results) == [] and changed.without_result(results) == rows
    (found,) = ours(rows, [changed], {}, results.lines(), {})
    assert found.lines == () and found.other == 1 and found.otherwise == ("--optimizer.epochs 1 (now 2)",)
    results.add(line_of(changed))
    assert changed.without_result(results) == []
    (found,) = ours(rows, [changed], {}, results.lines(), {})
    assert [line["key"] for line in found.lines] == [changed.key] and found.other == 1


def line_of(job: Job) -> dict[str, Any]:
    """What a run of it would leave, without scores."""
    about = {"table": job.table.name, "row": job.rows[0].name, "data": job.setting.data, "seed": job.seed}
    scoring = job.rows[0].scoring.to_json()
    return {"kind": "row", **about, "scoring": scoring, "key": job.key, "made_by": job.made_by}


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("optimizer", {"epochs": 3}), ("optimizer", {"learning_rate": 0.5}), ("model", {"width": 16}),
        ("model", {"weights": "imagenet"}), ("model", {"recalibrate_batches": 3}), ("augment", {"mirror": False}),
        ("loss", {"dice": 1.0}), ("run", {"seed": 7}), ("run", {"bf16": True}), ("run", {"minutes": 3.0}),
        ("data", {"synthetic_scenes": (6, 1)}), ("data", {"val_split": "test"}),
    ],
)  # fmt: skip
def test_what_decides_a_number_is_part_of_the_identity(section: str, change: dict[str, Any]) -> None:
    config = jobs_of("deconv", "duc")[0].config
    other = dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **change)})
    now, earlier = identity(other), identity(config)
    assert differing(now, earlier) and key_of(now) != key_of(earlier)


def test_what_decides_no_number_is_not() -> None:
    config = jobs_of("deconv", "duc")[0].config
    other = dataclasses.replace(
        config,
        name="another",
        data=dataclasses.replace(config.data, workers=5),
        run=dataclasses.replace(config.run, threads=2, device="auto", save_every_steps=7, tensorboard=True),
    )
    assert identity(other) == identity(config)


def test_a_field_that_was_not_there_yet_counts_as_its_default() -> None:
    now = identity(jobs_of("deconv", "duc")[0].config)
    earlier = json.loads(json.dumps(now))
    del earlier["augment"]["rotation"]
    assert differing(now, earlier) == []
    now["augment"]["rotation"] = 5.0
    assert differing(now, earlier) == ["--augment.rotation 0.0 (now 5.0)"]


def test_other_weights_and_other_pictures_are_seen(tmp_path: Path) -> None:
    from ducseg.data.synthetic.cityscapes import write_cityscapes

    config = jobs_of("deconv", "duc")[0].config
    found = []
    for name, seed, content in (("a", 0, b"1"), ("b", 0, b"1"), ("c", 1, b"1"), ("d", 0, b"2")):
        write_cityscapes(tmp_path / name, num_train=2, num_val=1, height=48, width=64, seed=seed)
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        data = DataConfig(dataset="cityscapes", root=str(tmp_path / name))
        model = dataclasses.replace(config.model, weights=str(tmp_path / f"{name}.safetensors"))
        found.append(key_of(identity(dataclasses.replace(config, data=data, model=model))))
    assert found[0] == found[1], "moved, the same files"
    assert len(set(found)) == 3


def test_rates_as_text_are_no_folders() -> None:
    (job,) = jobs_of("deconv", "duc", override=lambda config: changed(tiny(config), {"model.dilation": "1,2/2,5"}))
    assert Path(job.folder).name == job.folder and "1,2-2,5" in job.folder


def _train(out: Path) -> None:
    run_jobs(jobs_of("deconv", "duc", "deconv"), Results(out), Running(say=lambda line: None))


def _killed(*_given: object, **_options: object) -> None:
    raise KeyboardInterrupt


def test_a_run_is_on_record_as_done_before_it_can_no_longer_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs_of("deconv", "duc")
    state = tmp_path / "runs" / job.folder / "checkpoints" / "step-00000002" / "train_state.pt"

    def trained(*_given: object, **_options: object) -> SimpleNamespace:
        state.parent.mkdir(parents=True)
        state.touch()
        return SimpleNamespace(finished=True, checkpoint=state.parent, seconds=1.0, stopped_by=None)

    monkeypatch.setattr(running, "train", trained)
    monkeypatch.setattr(running, "write_whole", _killed)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job], Results(tmp_path), Running(say=print))
    assert state.exists()
    (state.parents[2] / "trained.json").write_text('{"seconds": 1.0}')  # killed right after
    monkeypatch.setattr(running, "row_scores", _killed)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job], Results(tmp_path), Running(say=print))
    assert not state.exists()


def test_checkpoints_that_were_being_discarded_are_not_there_and_the_next_run_removes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs_of("deconv", "duc")
    run, results = tmp_path / "runs" / job.folder, Results(tmp_path)
    (run / "checkpoints" / "step-00000002").mkdir(parents=True)
    (run / "last").symlink_to("checkpoints/step-00000002")
    results.add(line_of(job))
    run_jobs([job], results, Running(say=print))
    assert (run / "checkpoints").is_dir(), "not asked for"
    with monkeypatch.context() as patched:
        patched.setattr(running, "remove_folder", _killed)
        with pytest.raises(KeyboardInterrupt):
            run_jobs([job], results, Running(say=print, discard=True))
    assert not (run / "checkpoints").exists() and not (run / "last").is_symlink()
    run_jobs([job], results, Running(say=print, discard=True))
    assert list(run.iterdir()) == []


@pytest.mark.slow
def test_processes_share_a_folder_without_training_a_row_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_train, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    run(jobs_of("deconv", "duc", "deconv"), tmp_path)
    assert sorted(line["row"] for line in Results(tmp_path).lines()) == ["deconv", "duc"]
    logs = [path.read_text().count('"kind": "step"') for path in tmp_path.glob("runs/*/log.jsonl")]
    assert logs == [2, 2], "each step of each run once"


def _hold(out: Path, key: str, held: Any, end: Any) -> None:
    with claimed(out, key) as mine:
        assert mine
        held.set()
        end.wait(60)


@pytest.mark.slow
def test_a_row_that_another_process_is_at_is_left_to_it_until_that_is_killed(tmp_path: Path) -> None:
    (job,) = jobs_of("deconv", "duc")
    context = multiprocessing.get_context("fork")
    held, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, job.key, held, end))
    process.start()
    assert held.wait(30)
    ran = run_jobs([job], Results(tmp_path), Running(say=lambda line: None))
    assert ran.busy == ["deconv duc, seed 0"] and Results(tmp_path).lines() == []
    process.kill()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert len(run([job], tmp_path)) == 1


@pytest.mark.slow
def test_a_run_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after its first step by SIGTERM, as by a kill after a save."""
    from ducseg.train.stopping import Stopping

    (job,) = jobs_of("deconv", "duc")
    with monkeypatch.context() as patched:
        patched.setattr(Stopping, "requested", property(lambda self: True))
        ran = run_jobs([job], Results(tmp_path), Running(say=lambda line: None))
    assert ran.stopped_by is not None and Results(tmp_path).lines() == []
    log = next(tmp_path.glob("runs/*/log.jsonl"))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1]
    assert len(run([job], tmp_path)) == 1
    kinds = [(line["kind"], line["step"]) for line in map(json.loads, log.read_text().splitlines())]
    assert kinds == [("step", 1), ("step", 2), ("evaluation", 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("table", "archive"), [("table5", ".zip"), ("table6", ".tar.gz")])
def test_the_road_of_kitti_and_voc_runs_on_drawn_pictures(
    table: str, archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made, trained (VOC2012 twice), scored, written for the server: by the command that the real data takes."""
    from ducseg.experiments.ablations import drawn

    def write(data: str, root: Path) -> None:
        if data == "kitti-road":
            drawn.write_kitti_road(root, num_train=15, num_test=3, height=96, width=330)
        else:
            drawn.write_voc2012(root, num_train=8, num_val=2, num_test=2, height=48, width=64)

    monkeypatch.setattr(drawn, "_write", write)
    options = ["--seeds=1", "--epochs=1", "--model.width=8", "--augment.crop-size", "32", "32", "--data.workers=0"]
    options += ["--model.encoder=resnet18", "--run.no-bf16", "--run.threads=1", "--submit", "--out", str(tmp_path)]
    command = ["ablate", table, "--data", "synthetic", "--rows", "duc", *options]
    assert main([*command, "--dry-run"]) == 0 and not list(tmp_path.iterdir()), "a plan writes nothing"
    capsys.readouterr()
    assert main(command) == 0
    printed = capsys.readouterr().out
    (line,) = Results(tmp_path).lines()
    trainings = [json.loads(path.read_text())["name"] for path in tmp_path.glob("runs/*/config.json")]
    assert len(trainings) == (1 if table == "table5" else 2)
    if table == "table5":
        assert line["scores"]["road"].keys() == {"um_road", "umm_road", "uu_road", "urban_road"}
        assert "urban_road MaxF" in printed and "not recovered" in printed
    else:
        assert "83.1 [P]" in printed and "Trained in stages, each from the one before: duc." in printed
    assert (tmp_path / "submissions" / f"{table}-duc-seed0{archive}").is_file()
    assert main(command) == 0 and "training, see" not in capsys.readouterr().out


@pytest.mark.slow
def test_trained_rows_are_scored_by_width_once(tmp_path: Path) -> None:
    jobs, said = jobs_of("deconv", "duc", "deconv"), list[str]()
    run(jobs[:1], tmp_path)
    for _ in range(2):
        score_widths(jobs, Results(tmp_path), Running(say=said.append))
    assert said == ["deconv duc, seed 0: duc is scored by width"]
    (line,) = Results(tmp_path).lines("widths")
    (row,) = Results(tmp_path).lines()
    dice, iou = line["thin"]["classes"]["road"]["dice"], row["scores"]["classes"]["road"]["iou"]
    assert iou == pytest.approx(dice / (2 - dice)), "of the same network on the same pictures"
    (found, other) = ours(TABLES["deconv"].rows[:2], jobs, {}, [row], {}, [line])
    bins = [line["thin"]["classes"][name]["by_width"]["1-2"] for name in found.thin_classes]
    right, pixels = sum((one["recall"] or 0) * one["pixels"] for one in bins), sum(one["pixels"] for one in bins)
    assert found.recall_at("1-2") == [pytest.approx(100 * right / pixels)] and pixels > 0
    assert other.widths == () and other.recall_at("1-2") == []


@pytest.mark.slow
def test_networks_are_timed_in_turn(tmp_path: Path) -> None:
    jobs = jobs_of("heads", "bilinear-32", "duc-16", seeds=(0, 1))
    run(jobs, tmp_path)
    from ducseg.experiments.ablations.timing import time_rows, times_of

    time_rows(jobs, Results(tmp_path), count=2, say=lambda line: None)
    rows = [row for row in TABLES["heads"].rows if row.name in ("bilinear-32", "duc-16", "duc-8")]
    times = times_of(rows, jobs, Results(tmp_path).lines("time"))
    assert times.keys() == {"bilinear-32", "duc-16"} and all(line["ms"] > 0 for line in times.values())
    assert {(line["count"], line["height"], line["width"]) for line in times.values()} == {(2, 48, 64)}


def test_a_line_that_a_kill_cut_short_is_passed_over(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add({"kind": "row", "row": "a"})
    with results.path.open("a") as file:
        file.write('{"kind": "row", "ro')
    results.add({"kind": "row", "row": "b"})
    assert [line["row"] for line in results.lines()] == ["a", "b"]


@pytest.mark.slow
def test_a_failed_row_is_named_and_the_others_run(tmp_path: Path) -> None:
    def broken(config: Config) -> Config:
        config = tiny(config)
        best_by = "mean_iou" if config.model.head == "duc" else "no class"
        return dataclasses.replace(config, run=dataclasses.replace(config.run, best_by=best_by))

    jobs = jobs_of("deconv", "duc", "deconv", override=broken)[::-1]
    said: list[str] = []
    ran = run_jobs(jobs, Results(tmp_path), Running(say=said.append))
    assert list(ran.failed) == ["deconv deconv, seed 0"] and "found no class" in ran.failed[next(iter(ran.failed))]
    assert [line["row"] for line in Results(tmp_path).lines()] == ["duc"]


def test_spread() -> None:
    assert spread([]) == "not run" and spread([70.04]) == "70.0 (1)" and spread([70.0, 71.0, 72.0]) == "71.0 ± 1.0 (3)"


@pytest.mark.slow
def test_the_command_prints_and_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--data.synthetic-scenes", "4", "1", "--data.synthetic-size", "48", "64", "--model.width", "8"]
    small += [
        "--augment.crop-size",
        "32",
        "32",
        "--optimizer.batch-size",
        "2",
        "--run.threads",
        "1",
        "--data.workers=0",
    ]
    command = ["ablate", "deconv", "--data", "synthetic", *small, "--out", str(tmp_path), "--seeds", "2", "--epochs=1"]
    assert main([*command, "--dry-run"]) == 0
    assert "duc: DUC, ASPP 6, cell 2, bigger patch; 0 of 2 seeds done" in capsys.readouterr().out
    assert main([*command, "--rows", "duc"]) == 0
    printed = capsys.readouterr().out
    assert "SMALL SCALE" in printed and "| duc | 75.7 [P]" in " ".join(printed.split())
    assert "| duc | DUC, ASPP 6, cell 2, bigger patch | 75.7 [P]" in " ".join(
        (tmp_path / "deconv-synthetic-small.md").read_text(encoding="utf-8").split()
    )
    assert main([*command, "--show"]) == 0
    page = (tmp_path / "deconv-synthetic-small.md").read_text(encoding="utf-8")
    (duc,) = (line for line in page.splitlines() if line.startswith("| duc ") and "[P]" in line)
    assert duc.split("|")[4].strip().endswith("(2)")
    (deconv,) = (line for line in page.splitlines() if line.startswith("| deconv ") and "[P]" in line)
    assert [cell.strip() for cell in deconv.split("|")[3:5]] == ["75.1 [P]", "not run"]
    assert main([*command, "--dry-run"]) == 0
    assert "duc: DUC, ASPP 6, cell 2, bigger patch; 2 of 2 seeds done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["tabel1", "--data", "synthetic"], "Did you mean table1"),
        (["table1", "--data", "camvidd", "x"], "Did you mean camvid"),
        (["table1", "--data", "camvid"], "--data camvid: found nothing more; needed the folder"),
        (["table1", "--data", "synthetic", "x"], "--data synthetic: found x"),
        (["table1", "--data", "synthetic", "--rows", "dcu"], "row of table1"),
        (["table1", "--data", "synthetic", "--seeds", "0"], "--seeds"),
        (["table1", "--data", "synthetic", "--scale", "full"], "--data synthetic"),
        (["table5", "--data", "camvid", "x"], "kitti-road"),
    ],
)
def test_bad_options_are_one_clear_line(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", *given, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())
