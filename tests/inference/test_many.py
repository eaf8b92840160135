"""Shards, resuming and manifests: each picture once, nothing of what is done twice, whatever is killed when."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ducseg.classes import CAMVID
from ducseg.cli import main
from ducseg.cli.predict import Options
from ducseg.errors import UserError
from ducseg.inference.manifest import file_digest, read_rows
from ducseg.inference.many import ShardReport, predict_shard
from ducseg.inference.predict_files import predict_files
from ducseg.inference.shards import Shard
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter

WHOLE = Shard(0, 1)


class Stripes:
    """Classes by the green of a pixel; `pause` seconds a picture."""

    classes = CAMVID

    def __init__(self, pause: float = 0.0) -> None:
        self.asked, self.pause = 0, pause

    def __call__(self, image: Any, /) -> Any:
        self.asked += 1
        time.sleep(self.pause)
        return image[..., 1] % len(self.classes)

    def probabilities(self, image: Any, /) -> Any:
        return np.eye(len(self.classes), dtype=np.float32)[self(image)].transpose(2, 0, 1)


def pictures(folder: Path, count: int) -> Path:
    for index in range(count):
        place = folder / "in" / f"{'ab'[index % 2]}" / f"{index:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 256, (24, 32, 3), np.uint8)
        assert cv2.imwrite(str(place), noise)
    return folder / "in"


def shard(
    inputs: Path, out: Path, part: Shard = WHOLE, settings: str = "s", pause: float = 0.0, **options: Any
) -> ShardReport:
    kinds = options.pop("kinds", ("labels", "color"))
    return predict_shard(
        lambda: Stripes(pause), [inputs], out, kinds=kinds, shard=part, settings=settings, progress=False, **options
    )


def entries(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def tree(folder: Path) -> dict[str, str]:
    """Every file, hidden ones too, except manifests, with its digest."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".jsonl")
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def test_shards_together_are_one_run(tmp_path: Path) -> None:
    inputs = pictures(tmp_path, 11)
    predict_files(Stripes(), [inputs], tmp_path / "one", kinds=("labels", "color"), progress=False)
    done = [shard(inputs, tmp_path / "out", Shard(index, 3)) for index in range(3)]
    assert [len(part.report.written) for part in done] == [4, 4, 3]
    assert {part.total for part in done} == {11}
    assert tree(tmp_path / "out") == tree(tmp_path / "one")
    assert len(list((tmp_path / "out").glob("manifest-*-of-00003.jsonl"))) == 3
    assert shard(inputs, tmp_path / "out", Shard(1, 2)).labelled == 0, "done by another number of shards"


def test_a_line_says_what_was_done(tmp_path: Path) -> None:
    inputs = pictures(tmp_path, 2)
    (inputs / "a" / "broken.png").write_bytes(b"nothing")
    assert len(shard(inputs, tmp_path / "out").report.failed) == 1
    lines = entries(tmp_path / "out" / "manifest-00000-of-00001.jsonl")
    rows = {line["name"]: line for line in lines}
    assert len(lines) == 3 and rows.keys() == {"a/000", "b/001", "a/broken"}
    good, bad = rows["a/000"], rows["a/broken"]
    assert good["input"] == str(inputs / "a" / "000.png") and good["error"] is None and good["seconds"] >= 0
    assert good["outputs"] == {"labels": "a/000_labels.png", "color": "a/000_color.png"}
    assert good["sha256"] == {kind: file_digest(tmp_path / "out" / name) for kind, name in good["outputs"].items()}
    assert "broken.png" in bad["error"] and bad["outputs"] == bad["sha256"] == {}
    again = shard(inputs, tmp_path / "out")
    assert (again.labelled, again.skipped) == (1, 2), "what failed is tried again"


def test_only_what_is_whole_and_of_these_settings_is_left(tmp_path: Path) -> None:
    inputs, out = pictures(tmp_path, 6), tmp_path / "out"
    shard(inputs, out)
    whole = tree(out)
    (out / "a" / "000_labels.png").unlink()
    (out / "b" / "001_color.png").write_bytes((out / "b" / "001_color.png").read_bytes()[:-9])
    (out / "a" / "002_labels.png").write_bytes((out / "a" / "004_labels.png").read_bytes())
    found = shard(inputs, out)
    assert (found.labelled, found.skipped, found.changed, found.damaged) == (3, 3, 0, 3)
    assert tree(out) == whole
    later = (inputs / "a" / "004.png").stat().st_mtime_ns + 10**9
    os.utime(inputs / "a" / "004.png", ns=(later, later))
    found = shard(inputs, out)
    assert (found.labelled, found.skipped, found.changed) == (1, 5, 1), "another input under its name"
    found = shard(inputs, out, settings="other")
    assert (found.labelled, found.skipped, found.changed) == (6, 0, 6)
    assert shard(inputs, out, settings="other").labelled == 0


@pytest.mark.parametrize("torn", [1, 40, -1])
def test_a_torn_line_is_cut_off_and_its_picture_done_again(tmp_path: Path, torn: int) -> None:
    inputs, out = pictures(tmp_path, 4), tmp_path / "out"
    shard(inputs, out)
    place = out / "manifest-00000-of-00001.jsonl"
    lines = place.read_bytes().splitlines(keepends=True)
    place.write_bytes(b"".join(lines[:-1]) + lines[-1][:torn])
    other = out / "manifest-00001-of-00002.jsonl"
    other.write_bytes(b'[]\n{"name": 1}\n\xff\xfe\n' + lines[0].replace(b'"outputs"', b'"puts"') + b'{"na')
    found = shard(inputs, out)
    assert (found.labelled, found.skipped) == (1, 3)
    assert len(entries(place)) == 4


def test_a_manifest_that_cannot_be_written(tmp_path: Path) -> None:
    inputs, out = pictures(tmp_path, 2), tmp_path / "out"
    out.mkdir()
    (out / "manifest-00000-of-00001.jsonl").mkdir()
    with pytest.raises(UserError, match=r"manifest .*found Is a directory"):
        shard(inputs, out)


def wait_for_rows(run: Any, out: Path, known: int) -> None:
    """Until there is a new row, or it has ended: a busy machine may need long to begin."""
    ends = time.monotonic() + 120
    while run.exitcode is None and len(read_rows(out)) <= known:
        assert time.monotonic() < ends, "nothing happens"
        time.sleep(0.002)


def test_killed_at_any_time_it_loses_the_pictures_in_hand_alone(tmp_path: Path) -> None:
    """Kill -9 at random moments, then compare with an undisturbed run bit for bit."""
    inputs, out, count, rng = pictures(tmp_path, 60), tmp_path / "out", 60, random.Random(0)
    shard(inputs, tmp_path / "one")
    context, kills, lost = multiprocessing.get_context("fork"), 0, 0
    while True:
        before = set(read_rows(out)) if out.exists() else set()
        run = context.Process(target=shard, args=(inputs, out), kwargs={"pause": 0.004})
        run.start()
        wait_for_rows(run, out, len(before))
        run.join(rng.uniform(0, 0.08))
        if run.exitcode is not None:
            assert run.exitcode == 0
            break
        os.kill(run.pid or 0, signal.SIGKILL)
        run.join()
        kills += 1
        rows = read_rows(out) if out.exists() else {}
        assert before <= set(rows), "no line is lost"
        for row in rows.values():
            assert {kind: file_digest(out / name) for kind, name in row.outputs.items()} == row.sha256, "a line is true"
        finished = {file.name.removesuffix("_color.png") for file in out.rglob("[0-9]*_color.png")}
        lost = max(lost, len(finished - {Path(name).name for name in rows}))
    assert kills >= 3
    assert lost <= 2, "only what two threads were writing had no line yet"
    assert tree(out) == tree(tmp_path / "one"), "and nothing half-written is left"
    names = [entry["name"] for entry in entries(out / "manifest-00000-of-00001.jsonl")]
    assert sorted(names) == sorted(set(names)) and len(names) == count


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "checkpoint"
    save_segmenter(folder, build("resnet18", "duc", 3, aspp=0, width=4))
    return folder


def predict(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["predict", *map(str, arguments), "--device", "cpu"]) == 0
    return capsys.readouterr().out


def test_the_command_resumes_only_where_asked(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, out = pictures(tmp_path, 4), tmp_path / "out"
    whole = (checkpoint, inputs, "--out", out, "--kinds", "labels")
    predict(capsys, *whole)
    assert not list(out.glob("*.jsonl")), "plain predict replaces, and keeps no books"
    assert "4 of 4 pictures predicted" in predict(capsys, *whole, "--resume"), "made by who knows what"
    said = predict(capsys, *whole, "--resume")
    assert "4 pictures were done and whole: left as they are" in said and "0 of 0 pictures predicted" in said
    said = predict(capsys, *whole, "--shard", "1/2")
    assert "shard 1/2: 2 of 4 pictures" in said and "2 pictures were done" in said
    for option in (["--flip"], ["--kinds", "labels", "color"], ["--scales", "0.5", "1"]):
        assert "4 results were made with other settings" in predict(capsys, *whole, "--resume", *option)
        assert "4 pictures were done" in predict(capsys, *whole, "--resume", *option)
    other = tmp_path / "other"
    save_segmenter(other, build("resnet18", "duc", 3, aspp=0, width=4))
    said = predict(capsys, other, *whole[1:], "--resume", "--scales", "0.5", "1")
    assert "4 results were made with other settings, of another checkpoint or input: made anew" in said


def test_the_command_takes_file_urls(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs, out = pictures(tmp_path, 2), tmp_path / "out"
    said = predict(capsys, checkpoint, f"file://{inputs}", "--out", f"file://{out}", "--kinds", "labels")
    assert "2 of 2 pictures predicted" in said
    assert set(tree(out)) == {"a/000_labels.png", "b/001_labels.png"}


def test_settings_of_the_crf_are_its_files_content(checkpoint: Path, tmp_path: Path) -> None:
    def settings(**options: Any) -> str:
        return Options(checkpoint=str(checkpoint), inputs=(), out=tmp_path, **options).settings(("labels",))

    for name, width in (("a", 3.0), ("b", 4.0), ("c", 3.0)):
        (tmp_path / name).write_text(json.dumps({"sigma_beta": width}))
    found = [settings(crf=(tmp_path / name,)) for name in "abc"]
    assert found[0] == found[2] != found[1]
    assert len({settings(), settings(crf=()), settings(flip=True), found[1]}) == 4
    assert settings(device="cpu", batch_size=4, shard="1/2", resume=True) == settings(), "not what it is done with"


def test_the_command_takes_its_part_from_what_started_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = pictures(tmp_path, 4)
    whole = (checkpoint, inputs, "--out", tmp_path / "out", "--kinds", "labels")
    monkeypatch.setenv("SLURM_NTASKS", "3")
    monkeypatch.setenv("SLURM_PROCID", "2")
    said = predict(capsys, *whole)
    assert "shard 2/3, from SLURM_PROCID and SLURM_NTASKS (--shard 0/1: all pictures)" in said
    assert "shard 2/3: 1 of 4 pictures" in said
    assert "4 of 4" not in predict(capsys, *whole, "--shard", "0/1")
    assert len(list((tmp_path / "out").rglob("*_labels.png"))) == 4


@pytest.mark.slow
def test_the_command_itself_killed(checkpoint: Path, tmp_path: Path) -> None:
    """As a user's process, from its start to its end, with the network."""
    inputs, rng = pictures(tmp_path, 300), random.Random(1)
    command = [sys.executable, "-m", "ducseg", "predict", str(checkpoint), str(inputs), "--device", "cpu"]
    subprocess.run([*command, "--out", tmp_path / "one"], check=True, stdout=subprocess.DEVNULL)
    manifest, kills = tmp_path / "out" / "manifest-00000-of-00001.jsonl", 0
    while True:
        known = manifest.read_bytes().count(b"\n") if manifest.exists() else 0
        more = rng.randint(1, 80)
        run = subprocess.Popen([*command, "--out", tmp_path / "out", "--resume"], stdout=subprocess.DEVNULL)
        while run.poll() is None:
            if manifest.exists() and manifest.read_bytes().count(b"\n") >= known + more:
                run.kill()
                run.wait()
                break
            time.sleep(0.001)
        if run.returncode == 0:
            break
        kills += 1
    assert kills >= 2
    assert tree(tmp_path / "out") == tree(tmp_path / "one")
