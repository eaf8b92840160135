"""Dilation10, 8 and 7 and the front end alone, from the .caffemodel files of fyu/dilation.

Layers conv1_1 .. conv5_3, fc6, fc7, final; ctx_conv1_1 .. ctx_conv7_1, ctx_fc1, ctx_final; ctx_upsample or upsample.
"""

import re
from pathlib import Path

from ducseg.classes import ClassSet
from ducseg.models import Segmenter
from ducseg.models.comparisons.dilation10 import CONTEXT_RATES
from ducseg.weights.released import caffe
from ducseg.weights.released.caffe_layers import classes_of, conv, filled, is_bilinear, rgb, sketched, unfit, vgg

__all__ = ["load"]

_CAMVID = ClassSet(
    names=("building", "tree", "sky", "car", "sign", "road", "pedestrian", "fence", "pole", "sidewalk", "bicyclist"),
    palette=(
        (128, 0, 0), (128, 128, 0), (128, 128, 128), (64, 0, 128), (192, 128, 128), (128, 64, 128), (64, 64, 0),
        (64, 64, 128), (192, 192, 128), (0, 0, 192), (0, 128, 192),
    ),
)  # fmt: skip
"""In the order of fyu/dilation's datasets/camvid.json and kitti.json."""

_PREPROCESSING = {
    (19, 10): rgb(72.39, 82.91, 73.16),
    (11, 8): rgb(110.70313206, 108.77808759, 105.41212523),
    (11, 7): rgb(96.19429688, 95.55136972, 91.34692262),
}
"""By classes and layers: Cityscapes, CamVid, KITTI; else VOC's."""


def load(path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """Dilation10, 8 or 7, or the front end alone, from a .caffemodel of fyu/dilation.

    VOC's Dilation8 has another context module, with more channels layer by layer, and is refused.

    Args:
        path: such as dilation10_cityscapes.caffemodel.
        num_classes: L, where it is known: it must be the file's.

    Returns:
        The segmenter in evaluation mode, with the authors' preprocessing: RGB minus the mean of their data set.

    Raises:
        UserError: not such a file, a broken one, or one of another network.
    """
    path, layers = Path(path), caffe.index(Path(path))
    convolutions = sorted(name for name in layers if re.fullmatch(r"ctx_conv\d_\d", name))
    count = len(convolutions) + 2 if convolutions else 0
    head = f"dilation{count}" if count else "dilation_front"
    if count and count not in CONTEXT_RATES:
        raise unfit(path, "Dilation10", [f"a context module of {count} layers ({', '.join(convolutions)})"])
    classes = classes_of(path, layers, "final", num_classes)
    if len(classes) == len(_CAMVID):
        classes = _CAMVID
    made = sketched(path, layers, "conv1_1", head, classes, encoder="vgg16")
    places = vgg(made) | conv("head.classifier.fc6", "fc6") | conv("head.classifier.fc7", "fc7")
    places |= conv("head.final", "final")
    for number, name in enumerate([*convolutions, "ctx_fc1"] if count else []):
        places |= conv(f"head.context.convolutions.{number}", name)
    places |= conv("head.context.final", "ctx_final") if count else {}
    used = [name for name in ("ctx_upsample", "upsample") if name in layers and is_bilinear(path, layers, name)]
    preprocessing = _PREPROCESSING.get((len(classes), count), rgb(102.93, 111.36, 116.52))
    return filled(path, layers, made, places, used, preprocessing, flipped=("encoder.features.0.weight",))
