"""What the campaign found, the smallest input of each kind: these tests failed before it was mended."""

import asyncio
import base64
import contextlib
import errno
import gzip
import hashlib
import io
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch.distributed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image
from small_inputs import CLASSES, write_coco

from ducseg import files
from ducseg.classes import ClassSet
from ducseg.cli import crf, experiments, main
from ducseg.crf.params import load_params
from ducseg.crf.tune import Grid, tune
from ducseg.data import processes
from ducseg.data.convert import coco_folder, coco_voc, cvat, label_studio, labelme, yolo
from ducseg.data.convert.voc_sbd import read_sbd_mask
from ducseg.data.convert.writing import write_folder
from ducseg.data.cut import CutPatches
from ducseg.data.files.arrays import read_array
from ducseg.data.files.reading import read_image, read_label
from ducseg.data.files.shallow_json import Shallow
from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.loading import workers_watched
from ducseg.data.sample import Sample
from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.data.synthetic.kitti_road import write_kitti_road
from ducseg.data.synthetic.voc2012 import write_voc2012
from ducseg.errors import UserError, explain
from ducseg.experiments import EXPERIMENTS
from ducseg.experiments.custom import custom_resnet18_duc
from ducseg.figures.evaluation_folder import (
    Evaluated,
    read_evaluations,
    read_samples,
    write_evaluation,
    write_sample,
)
from ducseg.figures.report import write_report
from ducseg.inference.manifest import Manifest, Row, read_rows
from ducseg.inference.many import predict_shard
from ducseg.inference.onnx_file import read_onnx
from ducseg.inference.places import Place
from ducseg.inference.predict_files import write_each
from ducseg.inference.shards import Shard
from ducseg.inference.sources import find_pictures
from ducseg.inference.submission_files import _check_out
from ducseg.inference.tars import extract, list_members
from ducseg.inference.unit_worker import is_done
from ducseg.metrics.prediction_files import pictures_below
from ducseg.train import distributed
from ducseg.train.checkpoint import CheckpointFolder
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks
from ducseg.train.run_folder import read_config
from ducseg.train.run_log import RunLog

# -- values of another kind than thought -------------------------------------------------------------------------------


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(path)
    return path


def _read_labelme(file: Path) -> None:
    labelme.read(file.parent)


def _read_record(file: Path) -> None:
    file.rename(file.with_name("patches-train.json"))
    CutPatches(file.parent, "train")


def _read_source(file: Path) -> None:
    file.rename(file.with_name("source.json"))
    data: Any = None
    tune(file.parent, data, [], lambda _sample: np.zeros((1, 1, 1)), Grid(), source={})


def _read_config(file: Path) -> None:
    file.rename(file.with_name("config.json"))
    read_config(file.parent)


READERS: dict[str, Callable[[Path], object]] = {
    "classes": ClassSet.read, "crf": load_params, "labelme": _read_labelme, "label studio": label_studio.read,
    "patches": _read_record, "crf-tune": _read_source, "config": _read_config, "coco": coco_folder.read,
}  # fmt: skip


DEEP = {
    "deep": "[" * 100_000, "deep objects": '{"a":' * 50_000, "long": "9" * 10_000, "null": "null", "number": "3",
    "text": '"x"', "NaN": "NaN", "half a letter": '"\\ud800"',
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", DEEP)
def test_json_that_is_none_or_of_another_kind(reader: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(DEEP[text])
    with pytest.raises(UserError) as refused:
        READERS[reader](tmp_path / "x.json")
    assert "\n" not in str(refused.value)


def test_a_class_whose_colour_is_beyond_all_numbers(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('[{"name": "a", "color": [1e999, 0, 0]}]')
    with pytest.raises(UserError, match="an entry that does not read"):
        ClassSet.read(tmp_path / "classes.json")


def test_a_message_is_one_line() -> None:
    assert str(explain("a", found="b\nc", needed="d", fix="e")) == "a: found b c; needed d. e"


@settings(max_examples=20)
@given(text=st.recursive(st.integers() | st.text('"\\[]{}a'), st.lists).map(json.dumps), size=st.integers(1, 9))
def test_the_depth_of_json_is_what_its_brackets_say_however_it_is_cut(text: str, size: int) -> None:
    def depth(value: Any) -> int:
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    deep = depth(json.loads(text))
    file = Shallow(io.BytesIO(text.encode()), most=deep)
    assert b"".join(iter(lambda: file.read(size), b"")) == text.encode()
    if deep:
        file = Shallow(io.BytesIO(text.encode()), most=deep - 1)
        with pytest.raises(ValueError, match="nested more than"):
            list(iter(lambda: file.read(size), b""))


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_image, read_label])
def test_no_postscript_is_run(read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands an EPS to Ghostscript, whatever the file is called."""
    asked: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given: asked.append(given) or Image.new("RGB", (9, 9)))
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match="no picture"):
        read(tmp_path / "a.png")
    assert not asked


# -- annotations -------------------------------------------------------------------------------------------------------

CVAT = (
    '<annotations><image name="0.png" width="32" height="24"{}><polygon label="a" points="{}"/></image></annotations>'
)


@pytest.mark.parametrize("subset", ["../../outside", "/tmp/outside", "..", "a\\b", "a/b"])
def test_a_split_leads_nowhere_else(subset: str, tmp_path: Path) -> None:
    _picture(tmp_path / "in" / "0.png")
    (tmp_path / "in" / "a.xml").write_text(CVAT.format(f' subset="{subset}"', "1,1;9,1;9,9"))
    with pytest.raises(UserError, match="found a split"):
        write_folder(tmp_path / "out" / "made", cvat.read(tmp_path / "in" / "a.xml"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("subset", ["x" * 300, "train"])
def test_a_name_too_long_for_a_file_is_said(subset: str, tmp_path: Path) -> None:
    name = "0.png" if subset != "train" else f"{'y' * 120}/{'z' * 130}.png"  # with folders, where two have one stem
    _picture(tmp_path / "in" / name)
    _picture(tmp_path / "in" / "other" / Path(name).name)
    image = '<image name="{}" subset="{}" width="32" height="24"/>'
    both = [image.format(one, subset) for one in (name, f"other/{Path(name).name}")]
    (tmp_path / "in" / "a.xml").write_text(f"<annotations>{''.join(both)}</annotations>")
    with pytest.raises(UserError, match="File name too long"):
        write_folder(tmp_path / "out" / "made", cvat.read(tmp_path / "in" / "a.xml"))
    assert not (tmp_path / "out" / "made").exists()


@pytest.mark.parametrize("points", ["nan,1;9,1;9,9", "1e300,1;9,1;9,9", "1,1;9,1;9"])
def test_points_that_are_none(points: str, tmp_path: Path) -> None:
    _picture(tmp_path / "in" / "0.png")
    (tmp_path / "in" / "a.xml").write_text(CVAT.format("", points))
    with pytest.raises(UserError):
        write_folder(tmp_path / "made", cvat.read(tmp_path / "in" / "a.xml"))


@pytest.mark.parametrize("size", [(2**31, 2**31), (0, 5), (-3, -4)])
def test_a_picture_that_coco_calls_huge_takes_no_memory(size: tuple[int, int], tmp_path: Path) -> None:
    file = write_coco(tmp_path)
    content = json.loads(file.read_text())
    content["images"][0] |= {"height": size[0], "width": size[1]}
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="a picture of"):
        coco_folder.read(file)


def _studio(code: Any) -> list[dict[str, Any]]:
    region = {"type": "brushlabels", "value": {"brushlabels": ["a"], "rle": code}}
    return [{"data": {"image": "0.png"}, "annotations": [{"result": [region]}]}]


@pytest.mark.parametrize("code", [[None], ["x"], [1e999], {"a": 1}, [[0]], [63, 255, 255, 255, 57, 255, 255, 0, 0, 0]])
def test_a_brush_that_is_none_takes_no_memory(code: Any, tmp_path: Path) -> None:
    _picture(tmp_path / "0.png")
    (tmp_path / "a.json").write_text(json.dumps(_studio(code)))
    with pytest.raises(UserError):
        write_folder(tmp_path / "made", label_studio.read(tmp_path / "a.json"))


@pytest.mark.parametrize(("corner", "pixels"), [((-3, -2), 2 * 3), ((30, 22), 2 * 2), ((-90, 0), 0), ((90, 90), 0)])
def test_a_mask_that_lies_across_the_border_is_cut_there(corner: tuple[int, int], pixels: int, tmp_path: Path) -> None:
    _picture(tmp_path / "0.png")
    file = io.BytesIO()
    Image.fromarray(np.full((5, 5), 255, np.uint8)).save(file, "png")
    mask = {
        "label": "a",
        "shape_type": "mask",
        "points": [corner, [9, 9]],
        "mask": base64.b64encode(file.getvalue()).decode(),
    }
    (tmp_path / "0.json").write_text(json.dumps({"imagePath": "0.png", "shapes": [mask]}))
    write_folder(tmp_path / "made", labelme.read(tmp_path))
    assert np.count_nonzero(read_label(tmp_path / "made" / "masks" / "0.png")) == pixels


def test_yaml_whose_aliases_are_longer_than_any_memory(tmp_path: Path) -> None:
    lines = ["a: &a [x]"] + [f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(12)]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "train: images", "names: *m"]))
    with pytest.raises(UserError, match="a list for a name"):
        yolo.read(tmp_path)


def test_labels_that_are_no_text(tmp_path: Path) -> None:
    _picture(tmp_path / "images" / "0.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0.txt").write_bytes(b"0 \xff\xfe")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]")
    with pytest.raises(UserError, match=r"0\.txt: found no text"):
        yolo.read(tmp_path)


# -- archives, arrays, logs --------------------------------------------------------------------------------------------


def test_a_tar_whose_checksum_is_wrong(tmp_path: Path) -> None:
    plain, data = io.BytesIO(), np.random.default_rng(0).bytes(30_000)
    with tarfile.open(fileobj=plain, mode="w") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    packed = gzip.compress(plain.getvalue()[: 512 + 30_000])
    (tmp_path / "a.tar.gz").write_bytes(packed[:-8] + struct.pack("<II", 1, 1))
    with pytest.raises(UserError):
        for _, info, archive in list_members(tmp_path / "a.tar.gz"):
            extract(archive, info, tmp_path / "a.png")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"PK\x05\x06" + bytes(18), b"\x93NUMPY\x01\0\x05\0{'a':", b"\x93NUMPY\x01\0\2\0(("]
)
def test_an_array_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match="no array"):
        read_array(tmp_path / "a.npy")


class _Labelled:
    classes, ids = CLASSES, ("a",)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        zeros = np.zeros((12, 14), np.uint8)
        return Sample(image=np.stack([zeros] * 3, 2), label=zeros, id="a", original_size=(12, 14))


def test_counts_that_are_damaged_are_computed_anew(tmp_path: Path) -> None:
    grid = Grid(sigma_alpha=(3.0,), sigma_beta=(3.0,), w1=(1.0,), w2=(1.0,), iterations=(1,))
    data: Any = _Labelled()

    def search() -> Any:
        return tune(tmp_path, data, [0], lambda _sample: np.full((3, 12, 14), 1 / 3, np.float32), grid, source={})

    rows, kept = search(), tmp_path / "counts" / "a.npz"
    whole = kept.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b"NUMPY", b"NUMPX")):
        kept.write_bytes(damaged)
        assert search() == rows
        assert kept.read_bytes() == whole


def test_a_log_that_is_no_text_does_not_stop_a_run(tmp_path: Path) -> None:
    good = b'{"kind": "step", "step": 1}\n'
    (tmp_path / "log.jsonl").write_bytes(good + b'{"kind": "step", \xff\xfe\n[1]\n{"kind": [], "step": 1}\n')
    RunLog(tmp_path, tensorboard=False, resume_step=1, evaluated_step=0).close()
    assert (tmp_path / "log.jsonl").read_bytes() == good


# -- kills, disks, ranks -----------------------------------------------------------------------------------------------


def test_a_configuration_is_written_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, a run's checkpoints cannot be gone on with."""
    path, config = tmp_path / "config.json", custom_resnet18_duc()
    config.write(path)
    before = path.read_bytes()

    def full(file: Path, data: bytes | str, *_given: Any, **_options: Any) -> int:
        with open(file, "w") as opened:  # noqa: PTH123 -- as a disk does that fills up
            opened.write("{")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="No space left"):
        config.write(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


WRITERS: dict[str, Callable[[Path], None]] = {
    "cityscapes": lambda root: write_cityscapes(root, num_train=2, num_val=0, height=48, width=64),
    "kitti": lambda root: write_kitti_road(root, num_train=2, height=64, width=200),
    "voc": lambda root: write_voc2012(root, num_train=2, num_val=0, height=40, width=48),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("there", [False, True])
def test_half_a_drawn_data_set_is_none(
    writer: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever trains on what a killed command left would train on a part, and not know."""
    root, whole = tmp_path / "root", tmp_path / "whole"
    for folder in (root, whole) if there else ():
        folder.mkdir()
        (folder / "notes.txt").touch()
    counted, replace = [0], Path.replace

    def killed(path: Path, target: Path) -> Path:
        counted[0] += 1
        if counted[0] == 3:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        WRITERS[writer](root)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.is_relative_to(root)] == (
        ["notes.txt"] if there else []
    )
    for folder in (root, whole):
        WRITERS[writer](folder)
    names = [sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) for folder in (root, whole)]
    assert names[0] == names[1] and len(names[0]) > 4


@pytest.mark.parametrize(
    "error", [RuntimeError("[gloo/pair.cc:553] Connection closed by peer"), torch.distributed.DistNetworkError("lost")]
)
def test_a_rank_that_is_gone_is_said_in_a_line(error: RuntimeError) -> None:
    ranks = Ranks(rank=1, world_size=2, device=torch.device("cpu"), restarts=0)
    with pytest.raises(UserError, match="rank 1 of 2: found another one gone"), distributed._others_watched(ranks):
        raise error
    with pytest.raises(RuntimeError, match="of ours"), distributed._others_watched(ranks):
        raise RuntimeError("of ours")


def test_what_is_nested_too_deeply_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        files.parse_json("[" * 100_000)


@pytest.mark.parametrize("classes", [None, [], {"ground": {"pixels": 1}}, {"ground": {"iou": "x", "pixels": "x"}}])
def test_an_evaluation_that_cannot_be_shown(classes: Any, tmp_path: Path) -> None:
    custom_resnet18_duc().write(tmp_path / "config.json")
    stored = {
        "scores": {"mean_iou": 0.5, "pixel_accuracy": 0.5, "classes": classes}, "matrix": [[1]], "pictures": {},
        "classes": [{"name": "ground", "color": [0, 0, 0]}], "shown": [], "about": {"split": "val"},
    }  # fmt: skip
    (tmp_path / "evaluation" / "val").mkdir(parents=True)
    (tmp_path / "evaluation" / "val" / "scores.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="cannot be shown"):
        write_report([tmp_path], tmp_path / "report.html")


def test_damage_at_which_scipy_ends_the_process(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    good = io.BytesIO()
    scipy_io.savemat(good, {"GTcls": {"Segmentation": np.zeros((5, 7), np.uint8)}})
    for at in range(128, len(good.getvalue()), 5):
        for value in (0, 9, 255):
            damaged = bytearray(good.getvalue())
            damaged[at] = value
            (tmp_path / "a.mat").write_bytes(damaged)
            with contextlib.suppress(UserError):
                assert read_sbd_mask(tmp_path / "a.mat").ndim == 2


def test_too_many_connections_are_refused_as_all_else() -> None:
    """uvicorn's own 503 is text, and does not say when to come back."""
    running = pytest.importorskip("ducseg.serve.running")
    from starlette.responses import PlainTextResponse

    crowded = running.Crowded(PlainTextResponse("here"))

    def asked() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(crowded({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))
        return sent

    assert asked()[1]["body"] == b"here"
    crowded.connections = set(range(10_000))
    start, body = asked()
    assert start["status"] == 503 and (b"retry-after", b"1") in start["headers"]
    assert "\n" not in json.loads(body["body"])["error"]


def test_a_run_goes_on_where_its_checkpoints_already_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was large enough to begin on was too small to go on, for what is kept was counted twice."""
    checkpoints = CheckpointFolder(tmp_path, keep_last=2)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=150))
    with pytest.raises(UserError, match="free"):
        checkpoints.check_space(100)
    for step in (1, 2, 3):
        checkpoints.path(step).mkdir(parents=True)
    checkpoints.check_space(100)
    with pytest.raises(UserError, match="free"):
        checkpoints.check_space(200)


def test_an_interruption_of_which_python_makes_another_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def __set_name__(self, _owner: type, _name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "run", lambda _options: type("Made", (), {"field": Interrupted()}))
    assert main(["experiments"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_the_end_of_a_reading_process_of_which_python_makes_another_error() -> None:
    """torch says it out of a handler of signals, as in the middle of a thread's start."""
    with pytest.raises(UserError, match="one that the system ended"), workers_watched():
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        except RuntimeError:
            {}["thread"]


def test_scipys_blas_is_not_started_where_it_would_wait_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba's first kernel loads it; its start asks for memory again and again."""

    def refuse(*_given: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    files.compiled()
    assert "scipy.linalg" in sys.modules
    monkeypatch.delitem(sys.modules, "scipy.linalg")
    monkeypatch.setattr(files.mmap, "mmap", refuse)
    with pytest.raises(MemoryError):
        files.compiled()


LITTLE = """
import resource, sys
from ducseg.files import compiled
@compiled()
def add(x):
    return x + 1
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (50 << 20),) * 2)
try:
    add(1)
except (MemoryError, ImportError):
    pass
"""


@pytest.mark.slow
def test_a_kernel_in_little_memory_ends() -> None:
    subprocess.run([sys.executable, "-c", LITTLE], check=True, timeout=100)


@pytest.mark.parametrize(
    "words",
    [
        "can't start new thread",
        "could not create a primitive",
        "std::bad_alloc",
        "mmap: Cannot allocate memory",
        "can't allocate lock",
    ],
)
def test_too_little_memory_under_its_other_names(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_options: object) -> int:
        raise RuntimeError(words)

    monkeypatch.setattr(experiments, "run", fail)
    assert main(["experiments"]) == 2
    assert capsys.readouterr().err.startswith("error: memory: found too little")


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("optimizer", "batch_size", "4"), ("optimizer", "power", None), ("augment", "crop_size", [544]), ("loss",
        "dice", []),
        ("augment", "crop_size", 544), ("augment", "scale", "x"), ("run", "minutes", "x"), ("run", "bf16", 1),
        ("model", "encoder", 3), ("run", "patience", True), ("loss", "class_weights", {"a": 1}), ("data", "workers",
        1.5),
    ],
)  # fmt: skip
def test_a_configuration_of_other_kinds_of_values(section: str, field: str, value: Any, tmp_path: Path) -> None:
    written = custom_resnet18_duc().to_json()
    written[section][field] = value
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match=field):
        read_config(tmp_path)


@pytest.mark.parametrize("epochs", [2**2000, -(2**2000)], ids=["large", "small"])
def test_a_whole_number_beyond_all_others(epochs: int) -> None:
    config = custom_resnet18_duc()
    with pytest.raises(UserError, match=r"--optimizer\.epochs"):
        replace(config, optimizer=replace(config.optimizer, epochs=epochs)).check()


def test_every_experiment_reads_as_it_was_written() -> None:
    for make in EXPERIMENTS.values():
        config = make()
        assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "a\0.png"], ids=["long", "nul"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    file = write_coco(tmp_path / "coco")
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = name
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="missing"):
        write_folder(tmp_path / "made", coco_folder.read(file))
    (tmp_path / "data.yaml").write_text(f"train: {json.dumps(name)}\nnames: [a]")
    with pytest.raises(UserError, match=r"data\.yaml"):
        yolo.read(tmp_path)


def test_an_exported_network_without_a_version_of_operators(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.helper.make_model(onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], []))
    described = {
        "format": 1, "architecture": {}, "preprocessing": {"mean": [0.0] * 3, "std": [1.0] * 3},
        "classes": CLASSES.to_json(), "output": "labels", "int8": None,
        "metrics": None, "versions": {}, "extra": {},
    }  # fmt: skip
    model.metadata_props.add(key="ducseg", value=json.dumps(described))
    del model.opset_import[:]
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="version its operators"):
        read_onnx(tmp_path / "a.onnx")
    model.metadata_props[0].value = json.dumps(described | {"preprocessing": {}})
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"a\.onnx.*a description in it that does not read \(preprocessing: found \{\}"):
        read_onnx(tmp_path / "a.onnx")


def _left_by_a_kill(*files: Path) -> list[Path]:
    left = [file.with_name(f".{file.name}.4194305.tmp{file.suffix}") for file in files]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    return left


def _killed_at_two(item: int) -> int:
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def _end_of_file(item: int) -> int:
    raise EOFError(f"of item {item}")


def test_the_end_of_a_worker_is_said() -> None:
    with pytest.raises(UserError, match="one that the system ended"):
        list(processes.mapped(_killed_at_two, [1, 2, 3, 4], 2, chunk=1))


@pytest.mark.slow
def test_what_the_function_raises_is_raised() -> None:
    with pytest.raises(EOFError, match="of item 1") as caught:
        list(processes.mapped(_end_of_file, [1, 2], 2))
    assert "in _end_of_file" in str(caught.value.__cause__), "where it was raised"
    with pytest.raises(TypeError, match="pickle"):
        list(processes.mapped(open, [os.devnull, os.devnull], 2, chunk=1))


def test_a_worker_that_dies_just_before_the_next_one_starts_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Python's own pool a thread closes the pipes meanwhile: "handle is closed", "bad value(s) in fds_to_keep"."""
    start, started, pauses = SpawnProcess.start, list[SpawnProcess](), iter((0, 0.001, 0.1))

    def kill_the_first(process: SpawnProcess) -> None:
        if len(started) == 1:
            started[0].kill()
            time.sleep(next(pauses))
        start(process)
        started.append(process)

    monkeypatch.setattr(SpawnProcess, "start", kill_the_first)
    for _ in range(3):
        started.clear()
        with pytest.raises(UserError, match="one that the system ended"):
            list(processes.mapped(abs, [1, 2, 3], 3, chunk=1))


def test_a_process_that_cannot_be_started_is_not_called_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpawnProcess, "start", Mock(side_effect=OSError("no memory")))
    with pytest.raises(OSError, match="no memory"):
        list(processes.mapped(abs, [1, 2], 2))


def test_what_a_kill_left_half_written_is_removed_by_the_next_run(tmp_path: Path) -> None:
    picture, out = _picture(tmp_path / "in" / "0.png"), tmp_path / "out"
    others = _left_by_a_kill(out / "1_labels.png")  # of a picture that is not asked for
    left = _left_by_a_kill(out / "0_labels.png", out / "0_color.png")
    stripes: Any = SimpleNamespace(classes=CLASSES, record={})
    write_each(
        lambda _names, images: [image[..., 0] % 3 for image in images], stripes.classes, [picture], out,
        kinds=("labels", "color"), progress=False,
    )  # fmt: skip
    assert [file.exists() for file in left + others] == [False, False, True]

    search, data = tmp_path / "search", _Labelled()
    left = _left_by_a_kill(search / "source.json", search / "counts" / "a.npz", search / "probabilities" / "a.npy")
    grid = Grid(sigma_alpha=(3.0,), sigma_beta=(3.0,), w1=(1.0,), w2=(1.0,), iterations=(1,))
    asked: Any = data
    tune(search, asked, [0], lambda _sample: np.full((3, 12, 14), 1 / 3, np.float32), grid, source={})
    assert not any(file.exists() for file in left)

    checkpoints = CheckpointFolder(tmp_path / "run", keep_last=2)
    left = _left_by_a_kill(checkpoints.path(3) / "model.json")
    checkpoints.clean()
    assert not left[0].exists()


@pytest.mark.parametrize("number", [1, 2, 3, 4], ids=["picture", "truth", "name", "prediction"])
def test_a_followed_picture_of_which_a_fault_left_a_part_is_kept_whole_by_the_next_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = Path.replace, itertools.count(1)

    def refused(path: Path, target: Path) -> Path:
        if next(calls) == number:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(path, target)

    def keep() -> None:
        black = np.zeros((4, 5), np.uint8)
        write_sample(tmp_path, 0, 7, name="a", image=np.stack([black] * 3, 2), truth=black, prediction=black)

    with monkeypatch.context() as patched, pytest.raises(UserError, match="Permission denied"):
        patched.setattr(Path, "replace", refused)
        keep()
    keep()
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["0-7.png", "0-truth.png", "0.jpg", "names.json"]
    assert [(one.id, list(one.predictions)) for one in read_samples(tmp_path)] == [("a", [7])]


class _Stripes:
    classes = CLASSES

    def __call__(self, image: Any, /) -> Any:
        return image[..., 1] % 3

    def probabilities(self, image: Any, /) -> Any:
        return np.eye(3, dtype=np.float32)[self(image)].transpose(2, 0, 1)


@pytest.mark.parametrize(("per_tar", "number"), [(None, 1), (1, 2)], ids=["files", "tar"])
def test_no_line_of_a_manifest_without_the_digest_of_a_result(
    per_tar: int | None, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stayed so in a tar, which was done; a file of such a line counted as done once it was gone."""
    picture, out = _picture(tmp_path / "0.png"), tmp_path / "out"
    calls, digest = itertools.count(1), hashlib.file_digest

    def unreadable(*given: Any) -> Any:
        if next(calls) == number:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return digest(*given)

    def label() -> None:
        predict_shard(
            _Stripes, [picture], out, kinds=("labels", "color"), shard=Shard(0, 1), settings="", per_tar=per_tar,
            progress=False,
        )  # fmt: skip

    with monkeypatch.context() as patched, pytest.raises(UserError, match="Permission denied"):
        patched.setattr(hashlib, "file_digest", unreadable)
        label()
    label()
    rows = read_rows(out)
    assert len(rows) == (1 if per_tar is None else 2)
    assert all(len(found) == 64 for row in rows.values() for found in row.sha256.values())


ROW = Row(name="a", input="a.png", stamp="", settings="", outputs={"labels": "a"}, sha256={"labels": ""}, seconds=0)


def test_a_line_without_a_digest_says_nothing_of_a_file_that_is_gone(tmp_path: Path) -> None:
    assert is_done(ROW, Place(tmp_path), {"labels"}, stamp="", settings="") == "damaged"


def test_half_a_line_of_a_manifest_does_not_spoil_the_next(tmp_path: Path) -> None:
    """Of another thread, for which the disk has room again."""

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, line: bytes) -> int:
            return int(self.file.write(line[:20]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with Manifest(tmp_path, Shard(0, 1)) as manifest:
        manifest.add(ROW)
        file = manifest._file
        manifest._file = Full(file)  # type: ignore[assignment]
        with pytest.raises(UserError, match="no room for a line"):
            manifest.add(replace(ROW, name="b"))
        manifest._file = file
        manifest.add(replace(ROW, name="c"))
    assert manifest.path.read_bytes() == ROW.line() + replace(ROW, name="c").line()


def test_an_evaluation_that_is_being_replaced_is_not_read_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Evaluated(scores={}, matrix=np.zeros((3, 3), np.int64), classes=CLASSES, picture_iou={}, shown=(), about={})
    write_evaluation(tmp_path, "val", found)
    monkeypatch.setattr("shutil.rmtree", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_evaluation(tmp_path, "val", found)
    assert read_evaluations(tmp_path) == {}


def _list_labelme(folder: Path) -> None:
    content = {"imagePath": "a/000.png", "shapes": [{"label": "a", "points": [[1, 1], [9, 1], [9, 9]]}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    labelme.read(folder)


def _list_cityscapes(folder: Path) -> None:
    (folder / "leftImg8bit" / "val" / "b").mkdir(parents=True)
    Cityscapes(folder, "val")


LISTERS: dict[str, Callable[[Path], object]] = {
    "predict": lambda folder: find_pictures([folder]), "labelme": _list_labelme, "coco": coco_folder.read,
    "score": lambda folder: pictures_below(folder, "predictions", "one a picture"), "yolo": yolo.read,
    "coco-voc": coco_voc._pictures_below, "submission": lambda folder: _check_out(folder, (), None),
    "crf": lambda folder: crf.run(crf.Options(probabilities=folder, inputs=(str(folder),), out=folder / "out")),
    "cityscapes": _list_cityscapes,
}  # fmt: skip


@pytest.mark.parametrize("reader", LISTERS)
def test_a_folder_that_may_not_be_listed_is_not_taken_for_an_empty_one(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_coco(tmp_path)
    (tmp_path / "data.yaml").write_text("train: .\nnames: [a]")
    scandir = os.scandir

    def refused(place: Any) -> Any:
        if Path(place).name == "b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match="b: found Permission denied; needed one that can be listed"):
        LISTERS[reader](tmp_path)
