"""From Cityscapes files to augmented 544x544 samples: ours beside PIL + torchvision v2, and albumentations.

    python benchmarks/input_pipeline.py                       # the shared folder's real frames, some minutes
    python benchmarks/input_pipeline.py --root CITYSCAPES --repeats 9 --json pipeline.json

Everyone does the same for every sample: read a 1024x2048 picture and its label ids, scale both by a factor uniform in
0.5 to 1.5 (bilinear, nearest), cut 544x544 (padded with the mean colour and 255), mirror half of them, jitter
brightness, contrast and saturation by 20 %, give uint8 RGB and train ids. One process, one thread, files in the
cache. The pipelines take turns frame by frame, in another order each time; a sample's cost is the thread's CPU time, so
what else runs on the machine counts little, and a speed-up is the median over repeats of the ratio of two pipelines'
means. The cut patches (12-fold, 800x800) are written first and not timed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ducseg.data.cut import CutPatches, cut_patches
from ducseg.data.files import png
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID, Cityscapes
from ducseg.data.loading import AugmentedDataset
from ducseg.data.paired import PairedFiles, table
from ducseg.data.patches import Patches
from ducseg.data.sample import Sample
from ducseg.data.transforms import ColourJitter, Compose, RandomMirror, RandomScaleCrop

SHARED = Path(__file__).resolve().parents[2] / "shared"
CROP, SCALE, JITTER, MEAN = (544, 544), (0.5, 1.5), 0.2, (124, 116, 104)
TRAIN_IDS = table(LABEL_ID_TO_TRAIN_ID)
TRANSFORM = Compose((RandomScaleCrop(CROP, SCALE, MEAN), RandomMirror(), ColourJitter(JITTER, JITTER, JITTER)))
Pipeline = Callable[[int, int], Any]
"""(repeat, frame) -> sample."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=SHARED / "data" / "cityscapes", help="Cityscapes' folder")
    parser.add_argument("--repeats", type=int, default=7, help="samples of each frame and pipeline")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    frames = Cityscapes(arguments.root, "train")
    with tempfile.TemporaryDirectory() as folder:
        cut_patches(frames, folder, "12-fold")
        pipelines = {**peers(frames), **ours(frames, CutPatches(folder, "train"))}
        for run in pipelines.values():
            check(run(0, 0))
        seconds = measure(pipelines, len(frames), arguments.repeats)
        parts = {
            name: stages(dataset, len(dataset), arguments.repeats)
            for name, dataset in (("whole frames", frames), ("cut patches", CutPatches(folder, "train")))
        }
    found = summary(seconds)
    print_tables(found, parts)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"pipelines": found, "stages": parts}, indent=1) + "\n", encoding="utf-8")


def ours(frames: Cityscapes, cut: CutPatches) -> dict[str, Pipeline]:
    """What training runs: `AugmentedDataset` of whole frames, of patches on the fly, of cut patches."""
    whole, views, patches = (AugmentedDataset(data, TRANSFORM, 0) for data in (frames, Patches(frames, "12-fold"), cut))
    return {
        "ours: whole frames": lambda repeat, frame: whole[(repeat, frame)],
        "ours: patches on the fly": lambda repeat, frame: views[(repeat, 12 * frame + repeat % 12)],
        "ours: cut patches": lambda repeat, frame: patches[(repeat, 12 * frame + repeat % 12)],
    }


def peers(frames: Cityscapes) -> dict[str, Pipeline]:
    """The ordinary pipelines, as far as their packages are installed."""
    found: dict[str, Pipeline] = {}
    sys.path.append(str(SHARED / "tools"))
    try:
        import torchvision_cpu_shim  # noqa: F401  torchvision beside a CPU build of torch
    except ImportError:
        print("no shim: torchvision is imported as it is")
    try:
        found |= torchvision_pipelines(frames)
    except ImportError as error:
        print(f"left out: torchvision ({error})")
    try:
        found["cv2 + albumentations"] = albumentations_pipeline(frames)
    except ImportError as error:
        print(f"left out: albumentations ({error})")
    return found


def torchvision_pipelines(frames: Cityscapes) -> dict[str, Pipeline]:
    """PIL files, torchvision v2 on PIL pictures and on tensors (without antialiasing, which would cost more)."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    fill: dict[Any, Any] = {tv_tensors.Mask: 255, Image.Image: MEAN, tv_tensors.Image: MEAN}
    transform = v2.Compose(
        [
            v2.ScaleJitter((1024, 2048), SCALE, antialias=False),
            v2.RandomCrop(CROP, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(JITTER, JITTER, JITTER),
        ]
    )

    def read(frame: int) -> tuple[Image.Image, tv_tensors.Mask]:
        image = Image.open(frames.image_paths[frame]).convert("RGB")
        label = torch.from_numpy(TRAIN_IDS[np.asarray(Image.open(frames.label_paths[frame]))])
        return image, tv_tensors.Mask(label[None])

    def with_pil(repeat: int, frame: int) -> Any:
        image, label = transform(*read(frame))
        return functional.pil_to_tensor(image), label

    def with_tensors(repeat: int, frame: int) -> Any:
        image, label = read(frame)
        return transform(tv_tensors.Image(functional.pil_to_tensor(image)), label)

    return {"PIL + torchvision v2 (PIL)": with_pil, "PIL + torchvision v2 (tensors)": with_tensors}


def albumentations_pipeline(frames: Cityscapes) -> Pipeline:
    """cv2.imread and albumentations."""
    import albumentations

    transform = albumentations.Compose(
        [
            albumentations.RandomScale((SCALE[0] - 1, SCALE[1] - 1), p=1),
            albumentations.PadIfNeeded(*CROP, border_mode=cv2.BORDER_CONSTANT, fill=MEAN, fill_mask=255),
            albumentations.RandomCrop(*CROP),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.ColorJitter(
                brightness=(1 - JITTER, 1 + JITTER),
                contrast=(1 - JITTER, 1 + JITTER),
                saturation=(1 - JITTER, 1 + JITTER),
                hue=(0, 0),
                p=1,
            ),
        ]
    )

    def run(repeat: int, frame: int) -> Any:
        image = cv2.cvtColor(cv2.imread(str(frames.image_paths[frame])), cv2.COLOR_BGR2RGB)
        label = cv2.LUT(cv2.imread(str(frames.label_paths[frame]), cv2.IMREAD_UNCHANGED), TRAIN_IDS)
        sample = transform(image=image, mask=label)
        return sample["image"], sample["mask"]

    return run


def check(sample: Any) -> None:
    """Everyone gives uint8, 544x544, and no label but train ids."""
    image, label = (sample.image, sample.label) if isinstance(sample, Sample) else sample
    image, label = np.asarray(image), np.asarray(label).squeeze()
    assert image.dtype == label.dtype == np.uint8, (image.dtype, label.dtype)
    assert sorted(image.shape) == [3, *CROP], image.shape
    assert label.shape == CROP, label.shape
    assert not ((label > 18) & (label < 255)).any()


def measure(pipelines: dict[str, Pipeline], num_frames: int, repeats: int) -> dict[str, NDArray[np.float64]]:
    """CPU seconds of every sample, (repeats, frames) a pipeline; the order is another one for every frame."""
    seconds = {name: np.zeros((repeats, num_frames)) for name in pipelines}
    rng = np.random.default_rng(0)
    for repeat in range(repeats):
        for frame in range(num_frames):
            for name in rng.permutation(list(pipelines)):
                begin = time.thread_time()
                pipelines[name](repeat, frame)
                seconds[name][repeat, frame] = time.thread_time() - begin
    return seconds


class Timed(PairedFiles):
    """A data set that adds up the CPU time of reading images and labels."""

    def __init__(self, inner: PairedFiles) -> None:
        self.__dict__.update(inner.__dict__)
        self.image_seconds = self.label_seconds = 0.0

    def label(self, index: int) -> NDArray[np.uint8]:
        begin = time.thread_time()
        label = super().label(index)
        self.label_seconds += time.thread_time() - begin
        return label

    def __getitem__(self, index: int, /) -> Sample:
        begin, labels = time.thread_time(), self.label_seconds
        sample = super().__getitem__(index)
        self.image_seconds += time.thread_time() - begin - (self.label_seconds - labels)
        return sample


def stages(dataset: PairedFiles, length: int, repeats: int) -> dict[str, float]:
    """Milliseconds a sample of ours: image (file, inflate, filters), label (file, decode, check, map), augmentation."""
    timed = Timed(dataset)
    samples = AugmentedDataset(timed, TRANSFORM, 0)
    keys = [(repeat, index) for repeat in range(repeats) for index in range(0, length, max(1, length // 8))]
    begin = time.thread_time()
    for key in keys:
        samples[key]
    total = time.thread_time() - begin
    inflate = inflate_seconds(dataset, [index for _, index in keys])
    parts = {
        "image: unpack (whole stream)": inflate,
        "image: all": timed.image_seconds,
        "label": timed.label_seconds,
        "scale, crop, mirror, jitter, checks": total - timed.image_seconds - timed.label_seconds,
        "total": total,
    }
    return {name: 1000 * seconds / len(keys) for name, seconds in parts.items()}


def inflate_seconds(dataset: PairedFiles, indices: list[int]) -> float:
    """CPU time of unpacking these images' streams to their ends, by the module that decoding uses."""
    spent, unpack = 0.0, png.inflate_module().decompress
    for index in indices:
        plain = png.parse(dataset.image_paths[index].read_bytes())
        if plain is not None:
            begin = time.thread_time()
            unpack(plain.packed)
            spent += time.thread_time() - begin
    return spent


def summary(seconds: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    """Median milliseconds, samples a second, and how many times as fast as the faster of torchvision's backends."""
    means = {name: samples.mean(axis=1) for name, samples in seconds.items()}
    ordinary = [name for name in means if "torchvision" in name] or list(means)[:1]
    peer = min(ordinary, key=lambda name: statistics.median(means[name]))
    found = {}
    for name, each in means.items():
        ratios = means[peer] / each
        found[name] = {
            "ms": 1000 * statistics.median(each),
            "samples_per_second": 1 / statistics.median(each),
            "times_as_fast": statistics.median(ratios),
            "least": float(ratios.min()),
            "most": float(ratios.max()),
        }
    return found


def print_tables(found: dict[str, dict[str, float]], parts: dict[str, dict[str, float]]) -> None:
    print(f"{'pipeline':32} {'ms':>7} {'/s':>6} {'times as fast':>14}  (least to most)")
    for name, row in found.items():
        spread = f"({row['least']:.2f} to {row['most']:.2f})"
        print(f"{name:32} {row['ms']:7.1f} {row['samples_per_second']:6.1f} {row['times_as_fast']:14.2f}  {spread}")
    print(f"\nPNG streams are unpacked by {png.inflate_module().__name__}; what a sample of ours costs, in ms:")
    print(f"{'':36}" + "".join(f"{name:>15}" for name in parts))
    for stage in next(iter(parts.values())):
        print(f"{stage:36}" + "".join(f"{part[stage]:15.1f}" for part in parts.values()))


if __name__ == "__main__":
    main()
