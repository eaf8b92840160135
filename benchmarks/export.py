"""What exporting costs: a checkpoint, its ONNX file and its int8 file on the same test pictures.

    python benchmarks/export.py --camvid RUN --camvid-root CAMVID --drive RUN --drive-root DRIVE --json FILE

For each: mean IoU on the test split, beside it the IoU of the thin class (CamVid's poles, DRIVE's vessels, at the
argmax), megabytes, and milliseconds a picture, the three in turn. int8 is calibrated on up to 32 pictures of the
training split, and which convolutions stay in float is chosen on them; exports are compared on the validation split.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ducseg.export.pictures import labelled_split
from ducseg.export.quantize import Int8
from ducseg.export.writing import export_onnx
from ducseg.inference.bench import measure
from ducseg.inference.evaluate import evaluate
from ducseg.inference.opening import open_labeller
from ducseg.inference.trained_on import open_trained_on
from ducseg.metrics.confusion import scores, to_json
from ducseg.weights.checkpoint import checkpoint_folder, load_segmenter

MOST_TO_CALIBRATE = 32
THIN = {"camvid": "pole", "drive": "vessel"}


def rows(name: str, checkpoint: str, root: Path | None, folder: Path, bound: float) -> Iterator[dict[str, Any]]:
    """Of the network, its float file and its int8 file."""
    splits = {split: open_trained_on(checkpoint, split=split, root=root)[0] for split in ("train", "val", "test")}
    train, test, samples = splits["train"], splits["test"], labelled_split(splits["val"], "val")
    count = min(len(train), MOST_TO_CALIBRATE)
    calibration = [train[(2 * place + 1) * len(train) // (2 * count)].image for place in range(count)]
    files = {"onnx": folder / f"{name}.onnx", "onnx int8": folder / f"{name}-int8.onnx"}
    kept: dict[str, Any] = {}
    for kind, file in files.items():
        int8 = Int8(pictures=calibration, bound=bound) if kind == "onnx int8" else None
        found = export_onnx(load_segmenter(checkpoint), file, samples, int8=int8, about=samples.about)
        kept[kind] = found.int8
        print("\n".join(found.lines()))
    places = {"PyTorch": checkpoint_folder(checkpoint), **files}
    labellers = {kind: open_labeller(place) for kind, place in places.items()}
    timings = measure(labellers, 1, *test[0].size, rounds=5)
    for kind, place in places.items():
        file = place / "model.safetensors" if place.is_dir() else place
        yield {
            "data": name, "network": kind, "megabytes": file.stat().st_size / 1e6, "ms": timings[kind].median_ms,
            "scores": scores(evaluate(labellers[kind], test, progress=True).matrix, test.classes),
            "int8": kept.get(kind),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in THIN:
        parser.add_argument(f"--{name}", metavar="CHECKPOINT")
        parser.add_argument(f"--{name}-root", type=Path, help="where the data lies now")
    parser.add_argument("--bound", type=float, default=Int8.bound, help="agreement that int8 is to reach")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all numbers here")
    given = vars(parser.parse_args())
    torch.set_num_threads(given["threads"])
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in THIN:
            if given[name] is not None:
                found += rows(name, given[name], given[f"{name}_root"], Path(folder), given["bound"])
    print(f"{'data':8}{'network':11}{'mean IoU %':>11}{'thin IoU %':>11}{'MB':>7}{'ms':>7}")
    for row in found:
        thin = 100 * row["scores"]["classes"][THIN[row["data"]]]["iou"]
        mean = 100 * row["scores"]["mean_iou"]
        print(f"{row['data']:8}{row['network']:11}{mean:11.2f}{thin:11.2f}{row['megabytes']:7.1f}{row['ms']:7.0f}")
    if given["json"] is not None:
        given["json"].write_text(json.dumps(to_json(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
