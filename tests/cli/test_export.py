"""`ducseg export`, and the written file in `predict` and `eval`; hostile files."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from ducseg.cli import main
from ducseg.data.synthetic.cityscapes import SyntheticStreets, write_cityscapes
from ducseg.errors import UserError
from ducseg.export.onnx import exported_graph
from ducseg.export.writing import check_name, export_onnx
from ducseg.models import build
from ducseg.weights.checkpoint import load_segmenter, save_segmenter


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network for scenes, scenes, pictures, and the checkpoint as labels and as probabilities."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    segmenter = build(
        "resnet18",
        "duc",
        19,
        aspp=0,
        output_stride=16,
        width=4,
        classes=SyntheticStreets(1, height=48, width=64).classes,
    )
    with torch.no_grad():
        for parameter in segmenter.head.parameters():
            parameter.mul_(30)
    data = {"dataset": "cityscapes", "root": str(folder / "elsewhere"), "val_split": "val"}
    save_segmenter(folder / "run", segmenter, extra={"config": {"data": data}})
    write_cityscapes(folder / "scenes", num_train=1, num_val=2, height=64, width=96, seed=0, num_workers=1)
    (folder / "pictures").mkdir()
    for number in range(3):
        image = SyntheticStreets(3, height=70, width=90)[number].image
        cv2.imwrite(str(folder / "pictures" / f"{number}.png"), image[:, :, ::-1])
    for output in ("labels", "probabilities"):
        arguments = ["--out", str(folder / f"{output}.onnx"), "--output", output, "--check", str(folder / "pictures")]
        assert main(["export", str(folder / "run"), *arguments]) == 0
    return folder


def failing(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line of a command that ends with status 2."""
    assert main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_the_report(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "network.onnx"
    assert main(["export", str(place / "run"), "--out", str(out), "--data-root", str(place / "scenes")]) == 0
    printed = capsys.readouterr().out
    assert "compared on the split val, 2 pictures, and on parts of the first" in printed
    assert "100.0000 % of" in printed and "mean IoU: " in printed
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["output"] == "labels" and report["opset"] == 17 and report["int8"] is None
    assert report["float"]["equal_labels"] > 0.9999 and report["float"]["largest_difference"] < 1e-3
    assert report["float"]["pictures"] == 6, "two scenes and four odd parts"
    network, file = report["float"]["mean_iou"]
    assert network == pytest.approx(file, abs=1e-4)
    (entry,) = onnx.load(out).metadata_props
    assert json.loads(entry.value)["export"] == report
    assert str(place) not in entry.value
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.json", "network.onnx"]


def test_without_pictures_scenes_are_drawn_and_that_is_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(place / "run"), "--out", str(tmp_path / "x.onnx")]) == 0
    assert "drawn by ducseg, as no pictures were given" in capsys.readouterr().out


def test_a_file_that_answers_otherwise_is_not_left(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(segmenter: object, output: str = "labels") -> object:
        network = load_segmenter(place / "run")
        with torch.no_grad():
            network.head.paths[0].conv.bias[0] += 5  # type: ignore[union-attr, operator, index]
        return exported_graph(network, output)  # type: ignore[arg-type]

    monkeypatch.setattr("ducseg.export.writing.exported_graph", other)
    error = failing(capsys, "export", place / "run", "--out", tmp_path / "x.onnx", "--check", place / "pictures")
    assert "labels equal" in error and "nothing was written" in error
    assert not list(tmp_path.iterdir())


def test_predict_writes_what_the_checkpoint_writes(place: Path, tmp_path: Path) -> None:
    for name in ("run", "labels.onnx"):
        out = tmp_path / name
        assert main(["predict", str(place / name), str(place / "pictures"), "--out", str(out), "--device", "cpu"]) == 0
    files = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert len(files) == 9
    for name in files:
        wanted, found = (cv2.imread(str(tmp_path / one / name), -1) for one in ("run", "labels.onnx"))
        assert (wanted == found).mean() > 0.999


@pytest.mark.slow
def test_probabilities_scales_flip_and_the_crf_take_a_file_that_gives_them(place: Path, tmp_path: Path) -> None:
    for name in ("run", "probabilities.onnx"):
        options = ["--scales", "1", "1.5", "--flip", "--kinds", "probabilities", "--crf", "--device", "cpu"]
        arguments = ["predict", str(place / name), str(place / "pictures" / "0.png"), "--out", str(tmp_path / name)]
        assert main([*arguments, *options]) == 0
    wanted, found = (np.load(tmp_path / name / "0_probabilities.npy") for name in ("run", "probabilities.onnx"))
    np.testing.assert_allclose(found, wanted, atol=2e-3)


@pytest.mark.parametrize("options", [["--kinds", "probabilities"], ["--crf"], ["--flip"], ["--scales", "0.5"]])
def test_a_file_of_labels_says_that_it_has_no_probabilities(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    given = ["predict", place / "labels.onnx", place / "pictures", "--out", tmp_path / "out", *options]
    error = failing(capsys, *given, "--device", "cpu")
    assert "gives labels alone" in error and "--output probabilities" in error
    assert not (tmp_path / "out").exists()


def test_eval_scores_as_the_checkpoint(place: Path, tmp_path: Path) -> None:
    found = []
    for name in ("run", "labels.onnx"):
        score = tmp_path / f"{name}.json"
        root = ["--data-root", str(place / "scenes"), "--device", "cpu", "--json", str(score)]
        assert main(["eval", str(place / name), *root]) == 0
        found.append(json.loads(score.read_text()))
    assert found[1]["mean_iou"] == pytest.approx(found[0]["mean_iou"], abs=1e-4)


def test_what_an_exported_file_cannot_do(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, out = place / "labels.onnx", tmp_path / "out"
    assert "--data-root: found none recorded" in failing(capsys, "eval", labels)
    assert "--bf16" in failing(capsys, "predict", labels, place / "pictures", "--out", out, "--bf16")
    assert "an exported file (ONNX); needed a checkpoint" in failing(
        capsys, "export", labels, "--out", tmp_path / "x.onnx"
    )
    for name in (tmp_path / "x", tmp_path / "x.pt", tmp_path):
        assert "ends in .onnx" in failing(capsys, "export", place / "run", "--out", name)
    assert "no --int8" in failing(capsys, "export", place / "run", "--out", tmp_path / "x.onnx", "--int8-bound", "0.5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    ["{}", '{"classes": []}', "[]", "", "[" * 100_000, None],
    ids=["empty", "other", "list", "nothing", "nested", "folder"],
)
def test_a_json_that_is_no_report_is_left(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    other = tmp_path / "config.json"
    if content is None:
        other.mkdir()
    else:
        other.write_text(content)
    found = failing(capsys, "export", place / "run", "--out", tmp_path / "config.onnx", "--check", tmp_path / "none")
    assert "config.json, which is no report of an export" in found and "Choose another --out." in found
    assert list(tmp_path.iterdir()) == [other] and (content is None or other.read_text() == content)


def test_no_report_lies_over_or_hides_a_checkpoint(place: Path, tmp_path: Path) -> None:
    network, checkpoint = load_segmenter(place / "run"), tmp_path / "best"
    save_segmenter(checkpoint, network)
    for folder, words in ((checkpoint, "no report of an export"), (tmp_path, "found a checkpoint in ")):
        with pytest.raises(UserError, match=words):
            export_onnx(network, folder / "model.onnx", [])
        load_segmenter(folder)


def test_an_earlier_report_is_written_over(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    for name in ("labels", "probabilities"):
        out.with_suffix(".json").write_bytes((place / f"{name}.json").read_bytes())
        check_name(out)


def test_int8_prints_what_it_loses(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "int8.onnx"
    arguments = ["--int8", str(place / "pictures"), "--int8-bound", "0.5", "--data-root", str(place / "scenes")]
    assert main(["export", str(place / "run"), "--out", str(out), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "of 21 convolutions" in printed and "% of the int8 file" in printed and "bound 0.5" in printed
    report = json.loads(out.with_suffix(".json").read_text())["int8"]
    assert 0.5 <= report["agreement"] < 1 and report["layers"] == 21 and report["kept_in_float"] == []
    assert out.stat().st_size < 0.5 * (place / "labels.onnx").stat().st_size
    assert main(["predict", str(out), str(place / "pictures"), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def _without_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]
    model.producer_name = "another"


def _described(**changes: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        entry = model.metadata_props[0]
        entry.value = json.dumps({**json.loads(entry.value), **changes})

    return change


def _unreadable(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "[" * 100_000


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "NoSuchOperator"


def _other_weight(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_external, "numbers are in another file"),
        (_without_metadata, "another program by another"),
        (_described(classes=[]), "class names: found 0"),
        (_described(classes=[{"name": "sky"}]), "does not read"),
        (_described(output="scores"), "does not take uint8 (N, H, W, 3) and give scores"),
        (_described(output="else"), "description in it that does not read"),
        (_described(preprocessing={"mean": [1], "std": [1]}), "does not take uint8 (N, H, W, 1) and give labels"),
        (
            _described(preprocessing={"mean": [1] * 3, "std": [1] * 3, "dtype": "uint16"}),
            "does not take uint16 (N, H, W, 3)",
        ),
        (_described(preprocessing={"mean": [1], "std": [0]}), "std above 0"),
        (_described(preprocessing=None), "description in it that does not read"),
        (_described(format=2), "format 2 of a newer ducseg"),
        (_described(format=None), "description in it that does not read"),
        (_unreadable, "description in it that does not read"),
        (_unknown_operator, "onnxruntime does not run"),
        (_other_weight, "onnxruntime does not run"),
    ],
)
def test_a_changed_file_is_refused_in_one_line(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[onnx.ModelProto], None],
    words: str,
) -> None:
    model = onnx.load(place / "labels.onnx")
    change(model)
    (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
    scored = ["--data-root", place / "scenes", "--device", "cpu"]
    assert words in failing(capsys, "eval", tmp_path / "changed.onnx", *scored)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused_in_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    content = (place / "labels.onnx").read_bytes()
    (tmp_path / "short.onnx").write_bytes(content[: int(share * len(content))])
    arguments = ["predict", tmp_path / "short.onnx", place / "pictures", "--out", tmp_path / "out", "--device", "cpu"]
    assert "short.onnx" in failing(capsys, *arguments)
