"""Experiments: one function per published row, by the name that the command line takes."""

from collections.abc import Callable

from ducseg.experiments.camvid import camvid_resnet18_bilinear, camvid_resnet18_duc, camvid_resnet101_duc_hdc
from ducseg.train.config import Config

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Callable[[], Config]] = {
    function.__name__.replace("_", "-"): function
    for function in (camvid_resnet18_duc, camvid_resnet18_bilinear, camvid_resnet101_duc_hdc)
}
