"""Our networks beside torchvision's and segmentation_models_pytorch's: CPU seconds of inference and a training step.

    python benchmarks/networks.py                                  # everything, about 40 minutes on one core
    python benchmarks/networks.py --only pyramid --repeats 9 --json networks.json
    python benchmarks/networks.py --device cuda --pictures 8 --repeats 9 --dtypes float32 bf16

One process, one thread, and the networks take turns in every round, so that a busy machine slows all; what counts is
the time the process computes, not the time it waits. A ratio is the median over rounds of theirs and ours in one round.
Inference goes from the normalised picture to uint8 labels at its size, in evaluation mode; ours as `Predictor` computes
it (batch norms folded, channels_last), the others in channels_last, "as it comes" in torch's own order, "folded" with
torch.fx's folding of batch norms (smp's networks cannot be traced so). Their labels are read by `max`, which is faster
here than `argmax`. A training step is forward, cross-entropy (ours in folded space, as we train), backward and SGD, on
two pictures (torchvision's pooled batch norm takes no fewer). The pyramid's encoder and the peers' are the same.
Weights are random; time does not depend on them. On a GPU it is the time until the device is done with ten calls, after
three to warm up; --pictures fills it.

Needs torchvision and segmentation_models_pytorch (`make test` installs them); onnxruntime for its rows.
"""

import argparse
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from ducseg.models import build
from ducseg.models.segmenter import Segmenter, most_probable
from ducseg.ops.duc import downsample_labels, fold_labels

SHARED = Path(__file__).resolve().parents[2] / "shared"
CLASSES = 11
PAPER_SIZE = (360, 480)  # pixels: CamVid's
PYRAMID_SIZES = (512, 1024)
OURS = "ducseg"
DEVICE = torch.device("cpu")  # main sets it
Call = Callable[[], object]


def peers() -> tuple[Any, Any]:
    """torchvision and segmentation_models_pytorch."""
    try:
        import torchvision
    except RuntimeError:  # its wheel beside another build of torch
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.path.append(str(SHARED / "tools"))
        importlib.import_module("torchvision_cpu_shim")
        import torchvision
    return torchvision, importlib.import_module("segmentation_models_pytorch")


def paper() -> Segmenter:
    """R-101-DUC-HDC, bigger patch, cell 2, ASPP 4."""
    return build("resnet101", "duc", CLASSES, output_stride=8, dilation="bigger", cell=2, aspp=4)


def pyramid(encoder: str) -> Segmenter:
    return build(encoder, "pyramid", CLASSES, output_stride=32, dilation="none", aspp=0)


class ScoresOf(nn.Module):
    """torchvision's answer without its dict."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)["out"]
        return scores


def deeplab(torchvision: Any) -> nn.Module:
    make = torchvision.models.segmentation.deeplabv3_resnet101
    return ScoresOf(make(weights=None, weights_backbone=None, num_classes=CLASSES))


def smp_deeplabs(smp: Any) -> dict[str, nn.Module]:
    """At our output stride, and DeepLabV3Plus at its own, 16, too: a quarter of the places in its last stage."""
    wanted = {"DeepLabV3": ("DeepLabV3", 8), "DeepLabV3Plus": ("DeepLabV3Plus", 8)}
    wanted["DeepLabV3Plus, stride 16"] = ("DeepLabV3Plus", 16)
    return {
        f"smp {title}": last(
            smp.create_model(name, "resnet101", encoder_weights=None, encoder_output_stride=stride, classes=CLASSES)
        )
        for title, (name, stride) in wanted.items()
    }


def last(network: nn.Module) -> nn.Module:
    moved: nn.Module = network.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def noise(pictures: int, height: int, width: int) -> Tensor:
    return torch.randn(pictures, 3, height, width, device=DEVICE)


def labels_of(network: nn.Module, images: Tensor, *, bf16: bool) -> Call:
    """Their inference: scores, labels."""
    network.to(DEVICE).eval()

    @torch.inference_mode()
    def call() -> Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            return most_probable(network(images))

    return call


def our_labels(segmenter: Segmenter, images: Tensor, *, bf16: bool) -> Call:
    """Ours, as `Predictor` does it after normalising."""
    from ducseg.inference.predictor import Predictor

    network = Predictor(segmenter, DEVICE, fused=True, bf16=bf16)._network.eval()

    @torch.inference_mode()
    def call() -> Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            return network.predict_labels(images)

    return call


def training_of(network: nn.Module, loss: Callable[[Tensor], Tensor], images: Tensor, *, bf16: bool) -> Call:
    """A step of SGD on a loss of what `network` gives."""
    network.to(DEVICE).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            scores = network(images)
        loss(scores.float()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return call


class Folded(nn.Module):
    """Our network in training: scores in folded space."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        return self.segmenter.folded(images)


def paper_inference(pictures: int, bf16: bool) -> dict[str, Call]:
    torchvision, smp = peers()
    images = noise(pictures, *PAPER_SIZE)
    ordered = images.contiguous(memory_format=torch.channels_last)
    return {
        OURS: our_labels(paper(), ordered, bf16=bf16),
        "torchvision as it comes": labels_of(deeplab(torchvision), images, bf16=bf16),
        "torchvision": labels_of(last(deeplab(torchvision)), ordered, bf16=bf16),
        "torchvision folded": labels_of(last(fuse(deeplab(torchvision).eval())), ordered, bf16=bf16),
    } | {name: labels_of(network, padded(ordered), bf16=bf16) for name, network in smp_deeplabs(smp).items()}


def paper_training(pictures: int, bf16: bool) -> dict[str, Call]:
    torchvision, smp = peers()
    images = noise(pictures, *PAPER_SIZE)
    ordered = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (pictures, *PAPER_SIZE), device=DEVICE)
    targets = fold_labels(downsample_labels(labels, 2), 4)
    wider = F.pad(labels, (0, 0, 0, padded(images).shape[2] - labels.shape[1]), value=255)

    def against(truth: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda scores: F.cross_entropy(scores, truth, ignore_index=255)

    calls = {
        OURS: training_of(last(Folded(paper())), against(targets), ordered, bf16=bf16),
        "torchvision as it comes": training_of(deeplab(torchvision), against(labels), images, bf16=bf16),
        "torchvision": training_of(last(deeplab(torchvision)), against(labels), ordered, bf16=bf16),
    }
    for name, network in smp_deeplabs(smp).items():
        calls[name] = training_of(network, against(wider), padded(ordered), bf16=bf16)
    return calls


def padded(images: Tensor) -> Tensor:
    """As smp's DeepLabs want it: sides of a multiple of 16."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % 16, 0, -height % 16)).contiguous(memory_format=torch.channels_last)


def pyramid_inference(encoder: str, pictures: int, side: int, bf16: bool) -> dict[str, Call]:
    _, smp = peers()
    images = noise(pictures, side, side).contiguous(memory_format=torch.channels_last)
    calls = {OURS: our_labels(pyramid(encoder), images, bf16=bf16)}
    for name in ("Unet", "FPN"):
        network = smp.create_model(name, encoder, encoder_weights=None, classes=CLASSES)
        calls[f"smp {name}"] = labels_of(last(network), images, bf16=bf16)
    return calls


def pyramid_onnx(encoder: str, side: int) -> dict[str, Call]:
    """Graphs from the normalised picture to scores, exported by torch alike."""
    _, smp = peers()
    networks: dict[str, nn.Module] = {OURS: pyramid(encoder)}
    for name in ("Unet", "FPN"):
        networks[f"smp {name}"] = smp.create_model(name, encoder, encoder_weights=None, classes=CLASSES)
    return {name: _session(network.eval(), torch.randn(1, 3, side, side)) for name, network in networks.items()}


def _session(network: nn.Module, images: Tensor) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "network.onnx"
        torch.onnx.export(network, (images,), file, dynamo=True, external_data=False, verbose=False)
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (name,) = (taken.name for taken in session.get_inputs())
    return lambda: session.run(None, {name: images.numpy()})


def measured(calls: dict[str, Call], repeats: int) -> dict[str, dict[str, float]]:
    """CPU seconds of each by turns: median, and the median of ours over theirs in the same round."""
    for call in calls.values():
        for _ in range(1 if DEVICE.type == "cpu" else 3):
            call()
    rounds: list[dict[str, float]] = []
    for _ in range(repeats):
        rounds.append({name: _seconds(call) for name, call in calls.items()})
    return {
        name: {
            "seconds": statistics.median(times[name] for times in rounds),
            "ours_over_theirs": statistics.median(times[OURS] / times[name] for times in rounds),
        }
        for name in calls
    }


def _seconds(call: Call) -> float:
    if DEVICE.type == "cuda":
        return _seconds_on_gpu(call)
    begin = time.process_time()
    call()
    return time.process_time() - begin


def _seconds_on_gpu(call: Call, calls: int = 10) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000 / calls


def jobs(
    only: list[str], encoders: list[str], dtypes: list[str], pictures: int
) -> dict[str, Callable[[], dict[str, Call]]]:
    """What is measured, by title, made when its turn comes."""
    found: dict[str, Callable[[], dict[str, Call]]] = {}
    height, width = PAPER_SIZE
    for dtype in dtypes:
        bf16 = dtype == "bf16"
        if dtype != "onnxruntime" and "paper" in only:
            title = f"R-101-DUC-HDC, inference, {pictures}x3x{height}x{width}, {dtype}"
            found[title] = lambda b=bf16: paper_inference(pictures, b)
        if dtype != "onnxruntime" and "training" in only:
            title = f"R-101-DUC-HDC, training step, {max(2, pictures)}x3x{height}x{width}, {dtype}"
            found[title] = lambda b=bf16: paper_training(max(2, pictures), b)
        for encoder in encoders if "pyramid" in only else ():
            for side in PYRAMID_SIZES:
                title = f"pyramid, {encoder}, inference, {pictures}x3x{side}x{side}, {dtype}"
                if dtype == "onnxruntime":
                    found[title] = lambda e=encoder, s=side: pyramid_onnx(e, s)
                else:
                    found[title] = lambda e=encoder, s=side, b=bf16: pyramid_inference(e, pictures, s, b)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["paper", "training", "pyramid"])
    parser.add_argument("--encoders", nargs="+", default=["mobilenet_v2", "resnet18"], help="of the pyramid")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bf16", "onnxruntime"])
    parser.add_argument("--peers", nargs="+", default=["torchvision", "smp"], help="words of the rows beside ours")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=int, default=1, help="in a batch; of training at least 2")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    global DEVICE
    DEVICE = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    results = {}
    for title, make in jobs(arguments.only, arguments.encoders, arguments.dtypes, arguments.pictures).items():
        calls = {name: call for name, call in make().items() if any(word in name for word in (OURS, *arguments.peers))}
        results[title] = measured(calls, arguments.repeats)
        print(f"\n{title}\n\n| network | seconds | ducseg's share |\n| --- | --- | --- |")
        for name, row in results[title].items():
            print(f"| {name} | {row['seconds']:.3f} | {row['ours_over_theirs']:.2f} |", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
