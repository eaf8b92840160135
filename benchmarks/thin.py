"""Thin objects: our heads beside segmentation_models_pytorch's networks, one encoder file, one budget, three seeds.

    python benchmarks/thin.py run --data drive crackforest --cpu-seconds 60       # resumable; hours on 2 cores
    python benchmarks/thin.py run --data drive --steps 2000 --device cuda --processes 8       # as many steps for each
    python benchmarks/thin.py table --data drive                                  # from results already there
    python benchmarks/thin.py run ... --pictures DIR && python benchmarks/thin.py figure --pictures DIR     # of seed 0

Every network gets the same pictures, crops of 256 in batches of 4 (as many pixels with --crop), augmentation (mirrors,
quarter turns, brightness, contrast, colour and gamma; on CamVid nothing is turned), loss (cross-entropy and Dice),
AdamW with poly, bf16 where the processor has it, channels_last, batch norms recalibrated where the encoder's file has
them folded, and the same seconds of CPU, one thread a process. Of the learning rates (--rates), each network takes the
one that is best with seed 0 on held-out pictures: CamVid's validation split; of the two small sets every fifth picture
of what is not test, trained on the rest (one pathological picture among DRIVE's four for validation moves its score by
five points). Then seeds 0, 1, 2 are trained on the training split and scored on the test split. Predictions are the
argmax at the picture's own size, single scale, float32.

Needs segmentation_models_pytorch (`make test` installs it) and the shared folder's data and weights.
"""

import argparse
import importlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

SHARED = Path(__file__).resolve().parents[2] / "shared"
RATES = (2e-3, 6e-3, 1.5e-2)
CROP, BATCH = 256, 4
DRAWN = 2  # test pictures of a data set
COLUMNS = (
    "network", "thin IoU", "clDice", "F1", "F1 2 px", "boundary IoU", "recall by width", "rate", "steps", "ms", "MiB",
    "M",
)  # fmt: skip
DATA: dict[str, dict[str, Any]] = {
    "drive": {"dataset": "folder", "thin": ["vessel"], "turns": True, "few": True},
    "crackforest": {"dataset": "folder", "thin": ["crack"], "turns": True, "few": True},
    "camvid": {"dataset": "camvid", "thin": ["pole", "sign symbol"], "turns": False, "few": False},
}
OURS: dict[str, dict[str, Any]] = {
    "pyramid": {"head": "pyramid", "output_stride": 32, "dilation": "none", "aspp": 0},
    "duc 8": {"head": "duc", "output_stride": 8, "dilation": "none", "aspp": 0},
    "bilinear 8": {"head": "bilinear", "output_stride": 8, "dilation": "none", "aspp": 0},
    "deconv2 8": {"head": "deconv2", "output_stride": 8, "dilation": "none", "aspp": 0},
    "duc 8 dilated": {"head": "duc", "output_stride": 8, "dilation": "dilated", "aspp": 0},
    "duc 8 rf": {"head": "duc", "output_stride": 8, "dilation": "rf", "aspp": 0},
    "duc 8 bigger": {"head": "duc", "output_stride": 8, "dilation": "bigger", "aspp": 0},
}
PEERS = ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "plain U-Net")
ENCODERS = {  # ours, smp's, weight file, mean and deviation on 0..255, whether batch norms are stored folded
    "mobilenet_v2": ("mobilenet_v2", "mobilenet_v2", "mobilenet_v2-imagenet", "imagenet", True),
    "efficientnet_lite0": (
        "efficientnet_lite0",
        "tu-tf_efficientnet_lite0",
        "tf_efficientnet_lite0-imagenet",
        "half",
        False,
    ),
}
NORMS = {"imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), "half": ((127.5,) * 3, (127.5,) * 3)}


@dataclass(frozen=True)
class Trial:
    """One training: what it is called in the results file is all that decides it."""

    data: str
    network: str
    encoder: str
    rate: float
    seed: int
    split: str
    cpu_seconds: float
    budget_steps: int | None = None
    """In place of the seconds."""
    device: str = "cpu"
    crop: int = CROP
    encoder_factor: float = 1.0
    """The encoder's rate over that of what is new."""


def build_network(trial: Trial, num_classes: int) -> nn.Module:
    """The network with the encoder's ImageNet weights: normalised (N, 3, H, W) to scores (N, L, H, W)."""
    ours, theirs, file, _, _ = ENCODERS[trial.encoder]
    weights = load_file(SHARED / "weights" / f"{file}.safetensors")
    if trial.network in OURS:
        from ducseg.models import build

        segmenter = build(encoder=ours, num_classes=num_classes, **OURS[trial.network])
        _load(segmenter.encoder, weights)
        return segmenter
    if trial.network == "plain U-Net":
        return PlainUNet(num_classes)
    peer = _smp().create_model(trial.network, theirs, encoder_weights=None, classes=num_classes)
    _load(getattr(peer.encoder, "model", peer.encoder), weights)
    return peer


class PlainUNet(nn.Module):
    """nnU-Net's two-dimensional shape (Isensee et al. 2021), from scratch: two 3x3 convolutions a stage with instance
    norm and leaky ReLU, strides up to 32, transposed convolutions back; without deep supervision."""  # fmt: skip

    def __init__(self, num_classes: int, widths: tuple[int, ...] = (32, 64, 128, 256, 512, 512)) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _two_convs(before, after, stride=1 + (index > 0))
            for index, (before, after) in enumerate(itertools.pairwise((3, *widths)))
        )
        pairs = list(itertools.pairwise(widths[::-1]))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for coarse, fine in pairs)
        self.convs = nn.ModuleList(_two_convs(2 * fine, fine) for _, fine in pairs)
        self.last = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for stage in self.down:
            x = stage(x)
            features.append(x)
        for up, convs, lateral in zip(self.ups, self.convs, features[-2::-1]):
            x = convs(torch.cat([up(x), lateral], 1))
        scores: Tensor = self.last(x)
        return scores


def _two_convs(before: int, after: int, stride: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels, step in ((before, stride), (after, 1)):
        layers += [nn.Conv2d(channels, after, 3, step, 1), nn.InstanceNorm2d(after, affine=True), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


def _load(encoder: nn.Module, weights: dict[str, Tensor]) -> None:
    missing, _ = nn.Module.load_state_dict(encoder, weights, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not missing, missing  # every layer of the encoder starts from ImageNet


def _smp() -> Any:
    try:
        import segmentation_models_pytorch
    except RuntimeError:  # torchvision's wheel beside another build of torch
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.path.append(str(SHARED / "tools"))
        importlib.import_module("torchvision_cpu_shim")
        import segmentation_models_pytorch
    return segmentation_models_pytorch


def read_split(data: str, split: str) -> tuple[list[Any], tuple[str, ...]]:
    """Samples and class names, all in memory; "fit" and "held out" are what a learning rate is chosen on."""
    if split in ("fit", "held out"):
        if not DATA[data]["few"]:
            return read_split(data, {"fit": "train", "held out": "val"}[split])
        (train, names), (val, _) = read_split(data, "train"), read_split(data, "val")
        samples = sorted([*train, *val], key=lambda sample: str(sample.id))
        return [one for index, one in enumerate(samples) if (index % 5 == 1) == (split == "held out")], names
    from ducseg.data.config import DataConfig
    from ducseg.data.layouts.opening import open_dataset

    config = DataConfig(dataset=DATA[data]["dataset"], root=str(SHARED / "data" / data))
    dataset = open_dataset(config, split)
    return [dataset[index] for index in range(len(dataset))], dataset.classes.names


def batches(
    samples: list[Any], rng: np.random.Generator, *, turns: bool, side: int = CROP
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of about 4x256x256 pixels: uint8 images as float (N, 3, H, W), labels (N, H, W)."""
    count = max(1, round(BATCH * (CROP / side) ** 2))
    while True:
        crops = [_crop(samples[rng.integers(len(samples))], rng, turns, side) for _ in range(count)]
        images = torch.from_numpy(np.stack([image for image, _ in crops])).permute(0, 3, 1, 2).float()
        yield images, torch.from_numpy(np.stack([label for _, label in crops])).long()


def _crop(sample: Any, rng: np.random.Generator, turns: bool, size: int) -> tuple[Any, Any]:
    """A random window, mirrored and turned by quarters, with another contrast, brightness, tint and gamma.

    Nothing is resampled: that blurs what is one or two pixels wide.
    """
    image, label = sample.image, sample.label
    below, right = (max(0, size - side) for side in label.shape)
    if below or right:
        image, label = (cv2.copyMakeBorder(x, 0, below, 0, right, cv2.BORDER_REFLECT_101) for x in (image, label))
    top, left = (int(rng.integers(side - size + 1)) for side in label.shape)
    window = (slice(top, top + size), slice(left, left + size))
    image, label = image[window], label[window]
    mean = image.mean()
    values = (np.arange(256)[:, None] - mean) * rng.uniform(0.7, 1.3) + mean * rng.uniform(0.75, 1.25)
    values = np.clip(values * rng.uniform(0.9, 1.1, 3) / 255, 0, 1) ** rng.uniform(0.75, 1.33)
    image = cv2.LUT(np.ascontiguousarray(image), np.rint(255 * values).astype(np.uint8)[None])
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    if turns:
        quarters = int(rng.integers(4))
        image, label = np.rot90(image, quarters), np.rot90(label, quarters)
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def loss_of(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus one minus the mean Dice of the classes that the batch shows; (N, L, H, W), (N, H, W)."""
    logarithms = scores.log_softmax(1)
    found, valid, dice = logarithms.exp(), labels != 255, []
    for index in labels[valid].unique().tolist():
        truth, of_class = labels == index, found[:, index]
        dice.append((2 * (of_class * truth).sum() + 1) / ((of_class * valid).sum() + truth.sum() + 1))
    return F.nll_loss(logarithms, labels, ignore_index=255) + 1 - torch.stack(dice).mean()


def run_trial(trial: Trial, pictures: Path | None = None) -> dict[str, Any]:
    """Train and score; all figures of one row. The first predictions of seed 0 are written to `pictures`."""
    from ducseg.metrics.thin import ThinCounts
    from ducseg.models.batch_norm import recalibrate_batch_norm

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(trial.seed)
    train, names = read_split(trial.data, "fit" if trial.split == "held out" else "train")
    network = build_network(trial, len(names)).to(trial.device, memory_format=torch.channels_last)
    parameters = sum(p.numel() for p in network.parameters())
    mean, std = (
        torch.tensor(values, device=trial.device).view(3, 1, 1) for values in NORMS[ENCODERS[trial.encoder][3]]
    )
    stream = batches(train, np.random.default_rng(trial.seed), turns=DATA[trial.data]["turns"], side=trial.crop)
    if ENCODERS[trial.encoder][4] and trial.network != "plain U-Net":
        recalibrate_batch_norm(
            network.encoder, [(images.to(mean.device) - mean) / std for images, _ in itertools.islice(stream, 6)]
        )
    steps = _train(network, stream, trial, mean, std)
    network.eval()
    counts, seconds = ThinCounts(len(names)), []
    for index, sample in enumerate(read_split(trial.data, trial.split)[0]):
        image = (torch.from_numpy(sample.image).permute(2, 0, 1)[None].float().to(mean.device) - mean) / std
        prediction, took = _predict(network, image)
        seconds.append(took)
        counts.add(sample.label, prediction)
        if pictures is not None and (trial.split, trial.seed) == ("test", 0) and index < DRAWN:
            cv2.imwrite(str(pictures / f"{trial.data} {trial.network} {index}.png"), prediction)
    from ducseg.classes import ClassSet

    found = counts.scores(ClassSet(names, tuple((index, 0, 0) for index in range(len(names)))))["classes"]
    thin = [found[name] for name in DATA[trial.data]["thin"]]
    average = lambda key: 100 * float(np.mean([key(score) for score in thin]))  # noqa: E731
    return {
        **vars(trial),
        "iou": average(lambda score: score["dice"] / (2 - score["dice"])),
        "cldice": average(lambda score: score["cldice"]),
        "f1": average(lambda score: score["dice"]),
        "f1_2px": average(lambda score: score["within"]["2"]["f1"]),
        "boundary_iou": average(lambda score: score["boundary_iou"]),
        "recall_by_width": {
            width: round(average(lambda score, width=width: score["by_width"][width]["recall"]), 1)
            for width in thin[0]["by_width"]
        },
        "mean_iou": 100 * float(np.mean([score["dice"] / (2 - score["dice"]) for score in found.values()])),
        "steps": steps,
        "ms": 1000 * statistics.median(seconds),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "parameters": parameters,
    }


def _train(network: nn.Module, stream: Iterator[Any], trial: Trial, mean: Tensor, std: Tensor) -> int:
    learned_before = {id(p) for p in getattr(network, "encoder", nn.Identity()).parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in network.parameters():
        factor = trial.encoder_factor if id(p) in learned_before else 1.0
        groups.setdefault((0.01 if p.ndim > 1 else 0.0, factor), []).append(p)
    optimizer = torch.optim.AdamW(
        [{"params": ps, "weight_decay": decay, "factor": factor} for (decay, factor), ps in groups.items()],
        lr=trial.rate,
    )
    network.train()
    began, step = time.process_time(), 0

    def share() -> float:
        return step / trial.budget_steps if trial.budget_steps else (time.process_time() - began) / trial.cpu_seconds

    while (done := share()) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * trial.rate * min(1, 0.02 + done / 0.03) * (1 - done) ** 0.9
        images, labels = next(stream)
        images, labels = images.to(mean.device), labels.to(mean.device)
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(mean.device.type, torch.bfloat16):
            scores = network(images)
        loss = loss_of(scores.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        step += 1
    return step


@torch.inference_mode()
def _predict(network: nn.Module, image: Tensor) -> tuple[Any, float]:
    """uint8 labels (H, W) of one normalised picture, and the CPU seconds of the network alone (on a GPU of no use)."""
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % 32, 0, -height % 32)).contiguous(memory_format=torch.channels_last)
    began = time.process_time()
    labels = network(padded).argmax(1)
    return labels[0, :height, :width].to(torch.uint8).cpu().numpy(), time.process_time() - began


# -- many trials -----------------------------------------------------------------------------------------------------


def run_all(options: argparse.Namespace) -> None:
    """Every trial that the results file lacks: rates on held-out pictures, then seeds on the test split."""
    for data in options.data:
        pairs = itertools.product(options.networks, options.rates)
        first = [_trial(options, data, network, rate, 0, "held out") for network, rate in pairs]
        _run_missing(first, options)
        found = _results(options.results)
        second = []
        for network in options.networks:
            tried = [row for row in map(found.get, first) if row is not None and row["network"] == network]
            best = max(tried, key=lambda row: row["iou"])
            second += [_trial(options, data, network, best["rate"], seed, "test") for seed in range(options.seeds)]
        _run_missing(second, options)


def _trial(options: argparse.Namespace, data: str, network: str, rate: float, seed: int, split: str) -> Trial:
    budget = (0.0, options.steps) if options.steps else (options.cpu_seconds, None)
    setting = options.device, options.crop, options.encoder_factor
    return Trial(data, network, options.encoder, rate, seed, split, *budget, *setting)


def _results(path: Path) -> dict[Trial, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {Trial(**{key: row[key] for key in Trial.__dataclass_fields__ if key in row}): row for row in rows}


def _run_missing(trials: list[Trial], options: argparse.Namespace) -> None:
    waiting = [trial for trial in trials if trial not in _results(options.results)]
    running: list[subprocess.Popen[bytes]] = []
    for trial in waiting:
        while len([process for process in running if process.poll() is None]) >= options.processes:
            time.sleep(1)
        pictures = [str(options.pictures)] if options.pictures else []
        command = [sys.executable, __file__, "one", json.dumps(vars(trial)), str(options.results), *pictures]
        running.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}))
    for process in running:
        if process.wait():
            sys.exit(f"a trial failed: {process.args}")


def print_table(options: argparse.Namespace) -> None:
    """Mean and spread over the seeds on the test split, a row a network."""
    found = _results(options.results)
    for data in options.data:
        print(f"\n{data}, {options.encoder}, {_budget(options)}\n")
        print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
        for network in options.networks:
            wanted = _trial(options, data, network, 0, 0, "test")
            mine = [row for trial, row in found.items() if replace(trial, rate=0, seed=0) == wanted]
            if mine:
                print(f"| {network} | {' | '.join(_cells(mine))} |")


def draw_figure(options: argparse.Namespace) -> None:
    """Predictions alone, for the data sets' terms: a row for each picture, a column for each network; void is black."""
    from ducseg.classes import ClassSet
    from ducseg.figures.panels import draw_panels

    for data in options.data:
        samples, names = read_split(data, "test")
        classes = ClassSet(names, tuple((26, 27, 32) if not index else (125, 211, 252) for index in range(len(names))))
        files = [[options.pictures / f"{data} {network} {index}.png" for network in options.networks]
                 for index in range(DRAWN)]  # fmt: skip
        rows = [[cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in row] for row in files]
        for row, sample in zip(rows, samples):
            for prediction in row:
                prediction[sample.label == 255] = 255
        draw_panels(rows, options.pictures / f"{data}.png", options.networks, classes)


def _budget(options: argparse.Namespace) -> str:
    return f"{options.steps} steps" if options.steps else f"{options.cpu_seconds:g} s of CPU"


def _cells(rows: list[dict[str, Any]]) -> list[str]:
    mean = {key: statistics.mean(row[key] for row in rows) for key in rows[0] if isinstance(rows[0][key], int | float)}
    spread = {key: max(row[key] for row in rows) - min(row[key] for row in rows) for key in mean}
    scores = [f"{mean[key]:.1f} ({spread[key]:.1f})" for key in ("iou", "cldice", "f1", "f1_2px", "boundary_iou")]
    by_width = [np.nanmean([row["recall_by_width"][width] for row in rows]) for width in rows[0]["recall_by_width"]
                if not all(np.isnan(row["recall_by_width"][width]) for row in rows)]  # fmt: skip
    return [
        *scores,
        " ".join(f"{value:.0f}" for value in by_width),
        f"{rows[0]['rate']:g}",
        f"{mean['steps']:.0f}",
        f"{mean['ms']:.0f}",
        f"{mean['peak_mib']:.0f}",
        f"{mean['parameters'] / 1e6:.1f}",
    ]


def main() -> None:
    """Run, print, or do one trial for `run`."""
    if sys.argv[1:2] == ["one"]:
        row = run_trial(Trial(**json.loads(sys.argv[2])), *map(Path, sys.argv[4:]))
        with Path(sys.argv[3]).open("a") as file:
            file.write(json.dumps(row) + "\n")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table", "figure"])
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=["drive", "crackforest"])
    parser.add_argument("--networks", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--encoder", choices=list(ENCODERS), default="mobilenet_v2")
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--cpu-seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, help="of training, in place of --cpu-seconds")
    parser.add_argument("--crop", type=int, default=CROP)
    parser.add_argument("--encoder-factor", type=float, default=1.0, help="the encoder's rate over the head's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="trials at once, one thread each")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--pictures", type=Path, help="an existing folder")
    options = parser.parse_args()
    if options.what == "run":
        run_all(options)
    (draw_figure if options.what == "figure" else print_table)(options)


if __name__ == "__main__":
    main()
