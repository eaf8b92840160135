"""The dense CRF beside pydensecrf2, in one run: time, memory, growth with the picture, cost of each stage.

    python benchmarks/crf.py                      # 512 x 1024, 19 classes, 10 iterations; sizes; stages (some minutes)
    python benchmarks/crf.py --repeats 1 --sizes 256 --json crf.json

Both get the same probabilities and picture; each run is a process of its own, so that its peak memory is its own, and
the two take turns, so that a busy machine slows both. Ours is warmed by a small picture first (numba compiles at the
first call and keeps the result on disk); the time of that first call is reported apart, as `first`. Then each does the
whole picture twice. The second time counts; in the first, `fresh`, a process also waits for the system to hand it
memory, which on a virtual machine can take as long as the work.
The picture is the shared folder's first Cityscapes frame where there is one, else drawn noise over ramps.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

FRAMES = Path(__file__).resolve().parents[2] / "shared" / "data" / "cityscapes" / "leftImg8bit"
WARM = 48  # pixels, of the picture that makes numba load or compile its kernels
Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


def picture(height: int) -> Image:
    """A street scene (or ramps with noise), height x 2 height."""
    frames = sorted(FRAMES.glob("*/*/*.png")) + sorted(FRAMES.glob("*/*/*.jpg"))
    if frames:
        frame = cv2.cvtColor(cv2.imread(str(frames[0])), cv2.COLOR_BGR2RGB)
        return np.asarray(cv2.resize(frame, (2 * height, height), interpolation=cv2.INTER_AREA), np.uint8)
    y, x = np.mgrid[:height, : 2 * height]
    ramps = np.stack([x * 200 // (2 * height), y * 200 // height, (x + y) * 100 // height % 200], 2)
    return (ramps + np.random.default_rng(0).integers(0, 8, ramps.shape)).astype(np.uint8)


def network_output(classes: int, height: int) -> Floats:
    """Smooth blobs of confident classes with soft borders: softmax of blurred noise."""
    rng = np.random.default_rng(1)
    small = rng.standard_normal((classes, height // 4, height // 2)).astype(np.float32)
    blurred = [cv2.resize(cv2.GaussianBlur(x, (0, 0), 3), (2 * height, height)) for x in small]
    scores = 40 * np.stack(blurred).astype(np.float32)
    scores = np.exp(scores - scores.max(0))
    return np.asarray(scores / scores.sum(0), np.float32)


def run_ours(probabilities: Floats, image: Image, iterations: int) -> Floats:
    from ducseg.crf import dense_crf

    return dense_crf(probabilities, image, iterations=iterations)


def run_theirs(probabilities: Floats, image: Image, iterations: int) -> Floats:
    from pydensecrf.densecrf import DenseCRF2D

    classes, height, width = probabilities.shape
    crf = DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(-np.log(np.clip(probabilities, 1e-5, 1)).reshape(classes, -1))
    crf.addPairwiseGaussian(sxy=1, compat=3)
    crf.addPairwiseBilateral(sxy=15, srgb=3, rgbim=image, compat=3)
    return np.asarray(crf.inference(iterations), np.float32).reshape(classes, height, width)


def measure(who: str, folder: Path, iterations: int) -> dict[str, Any]:
    """In a process of its own: seconds of a small call and two big ones, and how far its memory rose (MiB)."""
    run = {"ours": run_ours, "theirs": run_theirs}[who]
    probabilities, image = np.load(folder / "probabilities.npy"), np.load(folder / "image.npy")
    begin = time.perf_counter()
    run(np.ascontiguousarray(probabilities[:, :WARM, :WARM]), np.ascontiguousarray(image[:WARM, :WARM]), 1)
    first = time.perf_counter() - begin
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20
    begin = time.perf_counter()
    run(probabilities, image, iterations)
    fresh = time.perf_counter() - begin
    begin = time.perf_counter()
    marginals = run(probabilities, image, iterations)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "first": first,
        "fresh": fresh,
        "seconds": seconds,
        "peak_mib": peak - held,
        "checksum": float(marginals[0].sum()),
    }


def in_process(who: str, folder: Path, iterations: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", who, str(folder), str(iterations)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return result


def compare(height: int, classes: int, iterations: int, repeats: int) -> dict[str, Any]:
    """Medians of both, taking turns, and their ratio."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "probabilities.npy", network_output(classes, height))
        np.save(folder / "image.npy", picture(height))
        for turn in range(repeats):
            for who in ("ours", "theirs") if turn % 2 == 0 else ("theirs", "ours"):
                runs[who].append(in_process(who, folder, iterations))
    row: dict[str, Any] = {"height": height, "width": 2 * height, "classes": classes, "iterations": iterations}
    for who, results in runs.items():
        keys = ("seconds", "fresh", "peak_mib", "first", "checksum")
        row[who] = {key: statistics.median(result[key] for result in results) for key in keys}
    assert abs(row["ours"]["checksum"] / row["theirs"]["checksum"] - 1) < 1e-3, "the two disagree"
    row["times_as_fast"] = row["theirs"]["seconds"] / row["ours"]["seconds"]
    row["times_as_fast_fresh"] = row["theirs"]["fresh"] / row["ours"]["fresh"]
    return row


def stages(height: int, classes: int, repeats: int) -> dict[str, float]:
    """Milliseconds of each part of ours on all cores: medians."""
    from ducseg.crf.lattice import build_lattice
    from ducseg.crf.mean_field import Filter, iterate
    from ducseg.crf.rows import RowShape, load_rows, store_rows
    from ducseg.crf.workers import Workers

    probabilities, image, shape = network_output(classes, height), picture(height), RowShape(classes)
    times: dict[str, list[float]] = {}

    def timed(name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = function(*args, **kwargs)
        times.setdefault(name, []).append(1e3 * (time.perf_counter() - begin))
        return result

    for _ in range(repeats + 1):
        with Workers() as workers:
            scores, q, _ = timed("probabilities to rows", load_rows, probabilities, floor=1e-5, workers=workers)
            bilateral = timed("bilateral lattice", build_lattice, image, (15.0, 15.0, 3.0, 3.0, 3.0), workers)
            gaussian = timed("Gaussian lattice", build_lattice, image, (1.0, 1.0), workers)
            for name, lattice in (("bilateral", bilateral), ("Gaussian", gaussian)):
                filtering = Filter(lattice, shape, workers)
                timed(f"splat and blur, {name}", workers.each, filtering.run, len(filtering.ranges), q)
            weights, potts = (3.0, 3.0), np.zeros(0, np.float32)
            timed("one iteration", iterate, scores, q, shape, (bilateral, gaussian), weights, potts, 1, workers)
            timed("eleven iterations", iterate, scores, q, shape, (bilateral, gaussian), weights, potts, 11, workers)
            timed("rows to marginals", store_rows, q, classes, height, 2 * height, workers)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    medians["per further iteration"] = (medians.pop("eleven iterations") - medians["one iteration"]) / 10
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024], help="heights; widths are twice that")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        who, folder, iterations = arguments.one
        print(json.dumps(measure(who, Path(folder), int(iterations))))
        return
    rows = []
    titles = f"{'size':>12} {'ours s':>8} {'theirs s':>9} {'ours MiB':>9} {'theirs MiB':>11} {'ratio':>6}"
    print(titles, f"{'fresh':>6} {'ns/pixel':>9}")
    for height in arguments.sizes:
        row = compare(height, arguments.classes, arguments.iterations, arguments.repeats)
        rows.append(row)
        cells = [row[who][key] for key, who in itertools.product(("seconds", "peak_mib"), ("ours", "theirs"))]
        each = 1e9 * cells[0] / (height * 2 * height)
        print(f"{height:>5} x{2 * height:>5}", "{:>8.3f} {:>9.3f} {:>9.0f} {:>11.0f}".format(*cells), end=" ")
        print(f"{row['times_as_fast']:>6.2f} {row['times_as_fast_fresh']:>6.2f} {each:>9.0f}", flush=True)
    middle = sorted(arguments.sizes)[len(arguments.sizes) // 2]
    parts = stages(middle, arguments.classes, arguments.repeats)
    print(f"\nstages at {middle} x {2 * middle}, {arguments.classes} classes (ms, all cores)")
    for name, milliseconds in parts.items():
        print(f"{name:>32} {milliseconds:>8.1f}")
    if arguments.json:
        temporary = arguments.json.with_name(arguments.json.name + ".partial")
        temporary.write_text(json.dumps({"comparison": rows, "stages": parts}, indent=2) + "\n", encoding="utf-8")
        temporary.replace(arguments.json)


if __name__ == "__main__":
    main()
