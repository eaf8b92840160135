"""Experiments: one function per published row, by the name that the command line takes."""

from collections.abc import Callable

from ducseg.experiments import cityscapes, comparisons, kitti_road, structured, voc2012
from ducseg.experiments.camvid import (
    camvid_pyramid,
    camvid_resnet18_bilinear,
    camvid_resnet18_duc,
    camvid_resnet18_duc_stride8,
    camvid_resnet101_duc_hdc,
    streets256_pyramid,
    streets256_resnet18_duc,
)
from ducseg.experiments.custom import custom_resnet18_duc, custom_resnet101_duc_hdc
from ducseg.experiments.synthetic import synthetic_bilinear, synthetic_duc, synthetic_pyramid
from ducseg.train.config import Config

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Callable[[], Config]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        camvid_resnet18_duc,
        camvid_resnet18_duc_stride8,
        camvid_resnet18_bilinear,
        camvid_resnet101_duc_hdc,
        streets256_resnet18_duc,
        streets256_pyramid,
        camvid_pyramid,
        *(
            getattr(module, name)
            for module in (cityscapes, kitti_road, voc2012, comparisons, structured)
            for name in module.__all__
        ),
        custom_resnet18_duc,
        custom_resnet101_duc_hdc,
        synthetic_duc,
        synthetic_bilinear,
        synthetic_pyramid,
    )
}
