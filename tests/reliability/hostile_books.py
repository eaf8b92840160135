"""Lists, settings, and what our own commands leave and read again."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hostile_parts import (
    by_hand,
    evil_arrays,
    noise,
    saved,
)
from hostile_workers import Target
from PIL import Image
from small_inputs import CLASSES

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {}


def _calibration(_context: Any, file: Path) -> None:
    from ducseg.data.kitti_calibration import KittiCalibration

    assert np.isfinite(KittiCalibration.read(file).road_to_image()).all()


def _calib_seed(_folder: Path) -> Sequence[bytes]:
    return [
        b"P2: 7.2e+02 0.0 6.0e+02 4.5e+01 0.0 7.2e+02 1.7e+02 2.2e-01 0.0 0.0 1.0 2.7e-03\n"
        b"R0_rect: 1.0 0.0 0.0 0.0 1.0 0.0 0.0 0.0 1.0\n"
        b"Tr_cam_to_road: 1.0 0.0 0.0 0.1 0.0 1.0 0.0 1.6 0.0 0.0 1.0 0.2\n"
    ]


TARGETS["KITTI's calibration"] = Target(_calib_seed, _calibration, ".txt", "lines")


def _image_set(_context: Any, file: Path) -> None:
    from ducseg.data.layouts.voc2012 import read_image_set

    assert read_image_set(file)


TARGETS["VOC's image set"] = Target(
    lambda _folder: [b"2007_000032\n2007_000039\n2007_000063\n"], _image_set, ".txt", "lines"
)


def _crf(_context: Any, file: Path) -> None:
    from ducseg.crf.params import load_params

    params, iterations = load_params(file)
    assert iterations >= 0 and params.sigma_alpha >= 0


def _crf_seed(_folder: Path) -> Sequence[bytes]:
    from ducseg.crf.params import CrfParams

    return [CrfParams().to_json(7).encode()]


TARGETS["--crf's settings"] = Target(_crf_seed, _crf, ".json", "json", made=by_hand)


def _array(_context: Any, file: Path) -> None:
    from ducseg.inference.refine import saved_probabilities

    assert isinstance(saved_probabilities(file.parent, Path(file.stem)), np.ndarray)


def _arrays(_folder: Path) -> Sequence[bytes]:
    made = []
    for values in (np.zeros((3, 4, 5), np.float16), np.zeros((3, 4, 5), np.float32, order="F")):
        file = io.BytesIO()
        np.save(file, values)
        made.append(file.getvalue())
    return made


TARGETS["saved probabilities, .npy"] = Target(_arrays, _array, ".npy", made=evil_arrays)


def _manifest(_context: Any, file: Path) -> None:
    from ducseg.inference.manifest import read_rows

    folder = file.parent / "books"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(file, folder / "manifest-00000-of-00001.jsonl")
    for row in read_rows(folder).values():
        assert isinstance(row.name, str) and all(isinstance(name, str) for name in row.outputs.values())
        row.line()


def _manifest_seed(_folder: Path) -> Sequence[bytes]:
    row = {
        "name": "a",
        "input": "a.png",
        "stamp": "1-2",
        "settings": "s",
        "outputs": {"labels": "a_labels.png"},
        "sha256": {"labels": "0"},
        "seconds": 0.5,
        "error": None,
    }
    return [(json.dumps(row) + "\n").encode()]


TARGETS["manifest of predict"] = Target(_manifest_seed, _manifest, ".jsonl", "json", made=by_hand)


def _patches_record(folder: Path, file: Path) -> None:
    from ducseg.data.cut import CutPatches

    shutil.copyfile(file, folder / "patches-train.json")
    assert len(CutPatches(folder, "train")) == 1


def _patches_folder(folder: Path) -> Path:
    for kind, picture in (
        ("images", saved(Image.fromarray(noise(24, 32)), "png")),
        ("labels", saved(Image.fromarray(np.zeros((24, 32), np.uint8)), "png")),
    ):
        (folder / kind / "train").mkdir(parents=True, exist_ok=True)
        (folder / kind / "train" / "0_00.png").write_bytes(picture)
    (folder / "classes.json").write_text(json.dumps(CLASSES.to_json()))
    return folder


_RECORD = {
    "scheme": "12-fold",
    "mean_colour": [1, 2, 3],
    "num_frames": 1,
    "num_patches": 1,
    "ids_sha256": "0",
    "complete": True,
}
TARGETS["record of data patches"] = Target(
    lambda _folder: [json.dumps(_RECORD).encode()], _patches_record, ".json", "json", _patches_folder, by_hand
)


class _Labelled:
    """Two pictures of three classes."""

    classes, ids = CLASSES, ("a", "b")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        from ducseg.data.sample import Sample

        return Sample(image=noise(12, 14), label=noise(12, 14, 1) % 3, id=self.ids[index], original_size=(12, 14))


def _tuned(folder: Path, replaced: str, file: Path | None) -> None:
    from ducseg.crf.tune import Grid, tune

    grid = Grid(sigma_alpha=(3.0,), sigma_beta=(3.0,), w1=(1.0,), w2=(1.0,), iterations=(1,))
    if file is not None:
        shutil.copyfile(file, folder / replaced)
        if replaced.endswith(".npy"):
            (folder / "counts" / "a.npz").unlink(missing_ok=True)  # then it is read
    data: Any = _Labelled()
    rows = tune(folder, data, [0, 1], lambda _: np.full((3, 12, 14), 1 / 3, np.float32), grid, source={"network": "x"})
    assert len(rows) == 2


def _tuned_folder(folder: Path) -> Path:
    _tuned(folder / "search", "", None)
    return folder / "search"


def _search(name: str) -> Callable[[Path], Sequence[bytes]]:
    def seeds(folder: Path) -> Sequence[bytes]:
        if not (folder / "search" / name).exists():
            _tuned(folder / "search", "", None)
        return [(folder / "search" / name).read_bytes()]

    return seeds


for _name, _kind in (("source.json", "json"), ("counts/a.npz", "zip"), ("probabilities/a.npy", "bytes")):
    TARGETS[f"crf-tune's {_name}"] = Target(
        _search(_name), lambda folder, file, name=_name: _tuned(folder, name, file), Path(_name).suffix, _kind,
        _tuned_folder,
        by_hand if _kind == "json" else evil_arrays,
    )  # fmt: skip


def _report(run: Path, file: Path) -> None:
    from ducseg.figures.report import write_report

    shutil.copyfile(file, run / "log.jsonl")
    write_report([run], run / "report.html")


def _reported_run(folder: Path) -> Path:
    from ducseg.experiments import EXPERIMENTS

    run = folder / "run"
    run.mkdir(exist_ok=True)
    next(iter(EXPERIMENTS.values()))().write(run / "config.json")
    return run


_LOG = [
    {"kind": "step", "step": 1, "loss": 2.5, "learning_rate": 0.1, "valid_pixels": 10, "gradient_norm": 1.0,
    "images_per_second": 3.0, "waiting_share": 0.1},
    {"kind": "step", "step": 2, "loss": 2.1, "learning_rate": 0.1, "valid_pixels": 10, "gradient_norm": 1.0,
    "images_per_second": 3.0, "waiting_share": 0.1},
    {"kind": "evaluation", "step": 2, "mean_iou": 0.3, "pixel_accuracy": 0.5, "classes": {"ground": {"iou": 0.3,
    "pixels": 5}}},
]  # fmt: skip


def _log_resumed(folder: Path, file: Path) -> None:
    from ducseg.train.run_log import RunLog

    run = folder / "resumed"
    run.mkdir(exist_ok=True)
    shutil.copyfile(file, run / "log.jsonl")
    log = RunLog(run, tensorboard=False, resume_step=1, evaluated_step=0)
    log.step(2, {"loss": 1.0}, board=False)
    log.close()
    assert all(json.loads(line)["step"] <= 2 for line in (run / "log.jsonl").read_text().splitlines())


_LOG_SEEDS = [b"".join(json.dumps(line).encode() + b"\n" for line in _LOG)]
TARGETS["log.jsonl of a report"] = Target(
    lambda _folder: _LOG_SEEDS, _report, ".jsonl", "lines", _reported_run, by_hand
)
TARGETS["log.jsonl of a resumed run"] = Target(
    lambda _folder: _LOG_SEEDS, _log_resumed, ".jsonl", "lines", made=by_hand
)


def _evaluated_run(folder: Path) -> Path:
    from ducseg.figures.evaluation_folder import Evaluated, Shown, write_evaluation

    run, picture = _reported_run(folder), noise(12, 14)
    shown = Shown(
        id="a", kind="worst", mean_iou=0.5, image=picture, truth=picture[..., 0] % 3, prediction=picture[..., 1] % 3
    )
    row = {"iou": 0.5, "pixels": 4}
    scores = {"mean_iou": 0.5, "pixel_accuracy": 0.5, "classes": dict.fromkeys(CLASSES.names, row)}
    whole = Evaluated(
        scores=scores, matrix=np.eye(3, dtype=np.int64), classes=CLASSES, picture_iou={"a": 0.5}, shown=(shown,),
        about={"split": "val"},
    )  # fmt: skip
    write_evaluation(run, "val", whole)
    return run


def _evaluated(run: Path, file: Path) -> None:
    from ducseg.figures.report import write_report

    shutil.copyfile(file, run / "evaluation" / "val" / "scores.json")
    write_report([run], run / "report.html")


TARGETS["stored evaluation"] = Target(
    lambda folder: [(_evaluated_run(folder) / "evaluation" / "val" / "scores.json").read_bytes()],
    _evaluated, ".json", "json", _evaluated_run, by_hand,
)  # fmt: skip
