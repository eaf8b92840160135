"""`ducseg bench`: what it counts is right, what it times is there for every variant, and nothing given is ignored."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ducseg.cli import main
from ducseg.export.onnx import description, exported_graph, with_description
from ducseg.models import Preprocessing, build
from ducseg.weights.checkpoint import save_segmenter

SMALL = ["--head", "bilinear", "--num-classes", "3", "--aspp", "0", "--output-stride", "32", "--dilation", "none"]
BOTH = ["float32", "bfloat16"]
FAST = ["--rounds", "2", "--device", "cpu"]


def bench(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    assert main(["bench", *arguments, *FAST, "--json", str(tmp_path / "bench.json")]) == 0
    found: dict[str, Any] = json.loads((tmp_path / "bench.json").read_text())
    return found


@pytest.mark.slow
def test_an_encoder_at_sizes_batches_and_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variants = ["--sizes", "64x96", "32x32", "--batch-sizes", "1", "2", "--profile"]
    found = bench(tmp_path, "resnet18", *SMALL, *variants)
    rows = found["rows"]
    assert [(row["size"], row["batch"], row["backend"]) for row in rows] == [
        (size, batch, backend) for size in ("64x96", "32x32") for batch in (1, 2) for backend in ("eager", "folded")
    ]
    for row in rows:
        assert row["failed"] is None and 0 < row["median_ms"] <= row["p95_ms"]
        assert row["pictures_per_second"] == pytest.approx(1e3 * row["batch"] / row["median_ms"])
        assert row["parameters"] == 11_176_512 + 9 * 512 * 3 + 3
    first = {(row["size"], row["batch"]): row["flops"] for row in rows}
    # stem, res2 (four convolutions), head; then res3 to res5, each a strided one, its shortcut and three more
    places = {2: 32 * 48, 4: 16 * 24, 8: 8 * 12, 16: 4 * 6, 32: 2 * 3}
    macs = places[2] * 64 * 3 * 49 + 4 * places[4] * 64 * 64 * 9 + places[32] * 512 * 3 * 9
    for stride, width in ((8, 128), (16, 256), (32, 512)):
        macs += places[stride] * (width * width // 2 * 9 + width * width // 2 + 3 * width * width * 9)
    assert first["64x96", 1] == 2 * macs and first["64x96", 2] == 4 * macs
    assert first["32x32", 1] * 6 == first["64x96", 1]
    stages = found["stages"]
    assert len(stages) == 2 * 2
    assert [*stages[0]["ms"]] == ["input", "stem", "res2", "res3", "res4", "res5", "head", "labels"]
    assert min(stages[0]["ms"].values()) > 0
    assert "GFLOPs" in capsys.readouterr().out


def test_a_checkpoint_and_files_side_by_side(tmp_path: Path) -> None:
    segmenter = build("resnet18", "pyramid", 3, output_stride=32, dilation="none", aspp=0, width=4).eval()
    save_segmenter(tmp_path / "run", segmenter)
    for name, int8 in (("float", None), ("int8", {"agreement": 1.0})):
        content = with_description(exported_graph(segmenter), description(segmenter, "labels", int8=int8))
        (tmp_path / f"{name}.onnx").write_bytes(content)
    names = [str(tmp_path / name) for name in ("run", "float.onnx", "int8.onnx")]
    rows = bench(tmp_path, *names, "--sizes", "40x50", "--backends", "folded", "onnxruntime", "--dtypes", *BOTH)["rows"]
    found = [(Path(row["network"]).name, row["backend"], row["dtype"]) for row in rows]
    assert found == [
        ("run", "folded", "float32"),
        ("run", "folded", "bfloat16"),
        ("run", "onnxruntime", "float32"),
        ("float.onnx", "onnxruntime", "float32"),
        ("int8.onnx", "onnxruntime", "int8"),
    ]
    assert len({(row["flops"], row["parameters"]) for row in rows}) == 1 and rows[0]["flops"] > 0
    assert all(row["median_ms"] > 0 for row in rows)


def test_networks_of_other_pictures(tmp_path: Path) -> None:
    kind = Preprocessing(mean=(3e3,) * 5, std=(300.0,) * 5, dtype="uint16")
    options: dict[str, Any] = {"output_stride": 32, "dilation": "none", "aspp": 0, "width": 4}
    for name, more in {"rgb": dict[str, Any](), "bands": {"num_channels": 5, "preprocessing": kind}}.items():
        segmenter = build("resnet18", "pyramid", 3, **options, **more).eval()
        save_segmenter(tmp_path / name, segmenter)
    (tmp_path / "x.onnx").write_bytes(with_description(exported_graph(segmenter), description(segmenter, "labels")))
    names = [str(tmp_path / name) for name in ("rgb", "bands", "x.onnx")]
    found = bench(tmp_path, *names, "--sizes", "64x96", "--backends", "folded", "onnxruntime", "--profile")
    assert [row["failed"] for row in found["rows"]] == [None] * 5 and len(found["stages"]) == 2
    rgb, *_, bands, file = (row["flops"] for row in found["rows"])
    assert bands == file > rgb


def test_what_does_not_run_is_said_and_the_others_are_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(*_given: object, **_options: object) -> Any:
        def call(*_images: object) -> None:
            raise RuntimeError("no C++ compiler\nand so on")

        return call

    monkeypatch.setattr(torch, "compile", no_compiler)
    rows = bench(tmp_path, "resnet18", *SMALL, "--sizes", "32x32", "--backends", "compiled", "folded")["rows"]
    assert rows[0]["failed"] == "RuntimeError: no C++ compiler" and rows[0]["median_ms"] is None
    assert rows[1]["failed"] is None and rows[1]["median_ms"] > 0
    assert "no C++ compiler" in " ".join(capsys.readouterr().out.split())  # folded to the terminal


@pytest.mark.slow
def test_compiled(tmp_path: Path) -> None:
    rows = bench(tmp_path, "resnet18", *SMALL, "--sizes", "32x32", "--backends", "compiled", "folded")["rows"]
    assert [row["failed"] for row in rows] == [None, None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "networks"),
        (["/nowhere"], "no such folder"),
        (["resnet19"], "network resnet19: found nothing of that name; needed a checkpoint"),
        (["/nowhere.onnx"], "no such file"),
        (["resnet18", "--sizes", "512"], "--sizes: found 512; needed height x width"),
        (["resnet18", "--sizes", "0x5"], "--sizes"),
        (["resnet18", "--batch-sizes", "0"], "--batch-sizes"),
        (["resnet18", "--rounds", "0"], "--rounds"),
        (["resnet18", "--threads", "-1"], "--threads"),
        (["resnet18", "--head", "pyramid"], "this network cannot be built"),
        (["/nowhere", "--head", "pyramid"], "--head: found /nowhere; needed a name of an encoder"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.filterwarnings("default::ducseg.errors.Said")
@pytest.mark.parametrize("dtypes", [BOTH, BOTH[1:]])
def test_what_a_processor_imitates_is_not_timed(
    dtypes: list[str], tmp_path: Path, no_bf16: None, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["resnet18", *SMALL, "--sizes", "32x32", "--backends", "folded"]
    rows = bench(tmp_path, *names, "--dtypes", *dtypes)["rows"]
    assert [row["dtype"] for row in rows] == ["float32"]
    assert "warning: float32 in place of bfloat16, which this cpu would only imitate" in capsys.readouterr().err
