"""Predicting with two threads while another program keeps a processor busy: threads that wait by turning or leaving.

    python benchmarks/beside_others.py [--seconds 10] [--rounds 3]

Pictures a second of pretrained/cracks (256x256, float32, two threads) in processes of its own, with libgomp's own
spinning (300,000 turns) and with the commands' GOMP_SPINCOUNT=1000, alternated; alone, then beside a loop that is bound
to the last processor. Linux.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = {"libgomp's own": {}, "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"}}


def predict(seconds: float) -> float:
    """Pictures a second, in this process."""
    import numpy as np
    import torch

    from ducseg.inference.predictor import Predictor
    from ducseg.weights.checkpoint import load_segmenter

    torch.set_num_threads(2)
    network = Path(__file__).resolve().parents[1] / "pretrained" / "cracks"
    predictor = Predictor(load_segmenter(network), fused=True)
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    predictor(picture)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        predictor(picture)
        count += 1
    return count / (time.perf_counter() - began)


def rate(way: dict[str, str], seconds: float) -> float:
    """Pictures a second of one process."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, __file__, "--predict", "--seconds", str(seconds)]
    return float(subprocess.run(command, env={**kept, **way}, check=True, capture_output=True, text=True).stdout)


def measure(seconds: float, rounds: int) -> None:
    """A line a way: the median of the rounds and their range."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(rate(WAYS[name], seconds))
    for name, values in found.items():
        print(f"  {name:20} {statistics.median(values):6.2f} pictures/s ({min(values):.2f} to {max(values):.2f})")


def main() -> None:
    """Alone, then beside a loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--predict", action="store_true", help="what the processes of its own do")
    options = parser.parse_args()
    if options.predict:
        print(predict(options.seconds))
        return
    print("alone")
    measure(options.seconds, options.rounds)
    last = max(os.sched_getaffinity(0))
    bound = f"import os; os.sched_setaffinity(0, {{{last}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", bound], start_new_session=True) as loop:
        try:
            print(f"beside a loop on processor {last}")
            measure(options.seconds, options.rounds)
        finally:
            loop.kill()


if __name__ == "__main__":
    main()
