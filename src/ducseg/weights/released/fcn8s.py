"""FCN-8s, its stages and FCN-8s at once, from the .caffemodel files of shelhamer/fcn.berkeleyvision.org.

Layers conv1_1 .. conv5_3, fc6, fc7, score_fr; FCN-16s also score_pool4, FCN-8s score_pool3; of those trained at once
scale_pool4 and scale_pool3; the deconvolutions upscore, upscore2, upscore16, upscore_pool4, upscore8.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ducseg.models import Segmenter
from ducseg.weights.released import caffe
from ducseg.weights.released.caffe_layers import (
    Layers,
    Place,
    classes_of,
    conv,
    filled,
    is_bilinear,
    rgb,
    sketched,
    unfit,
    vgg,
)
from ducseg.weights.released.network import BoundedFile

__all__ = ["load"]

_PREPROCESSING = rgb(104.00699, 116.66877, 122.67892)


def load(path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """FCN-8s or one of its stages from a .caffemodel of shelhamer/fcn.berkeleyvision.org.

    Deconvolutions that are not bilinear, which the released ones are, make an `fcn8s_learned`.

    Args:
        path: such as fcn8s-heavy-pascal.caffemodel.
        num_classes: L, where it is known: it must be the file's.

    Returns:
        The segmenter in evaluation mode, with the authors' preprocessing: RGB minus the mean.

    Raises:
        UserError: not such a file, a broken one, or one of another network.
    """
    path, layers = Path(path), caffe.index(Path(path))
    head = "fcn8s" if "score_pool3" in layers else "fcn16s" if "score_pool4" in layers else "fcn32s"
    ups = [name for name in layers if name.startswith("upscore")]
    if head == "fcn8s" and "scale_pool4" in layers:
        head = "fcn8s_at_once"
    elif head == "fcn8s" and not all(is_bilinear(path, layers, name) for name in ups):
        head = "fcn8s_learned"
    classes = classes_of(path, layers, "score_fr", num_classes)
    made = sketched(path, layers, "conv1_1", head, classes, encoder="vgg16")
    places = vgg(made) | conv("head.classifier.fc6", "fc6") | conv("head.classifier.fc7", "fc7")
    places |= conv("head.score_fr", "score_fr")
    for pool in ("pool4", "pool3")[: {"fcn32s": 0, "fcn16s": 1}.get(head, 2)]:
        places |= conv(f"head.scores.score_{pool}", f"score_{pool}")
    used = ["scale_pool4", "scale_pool3"] if head == "fcn8s_at_once" else []
    _check_scales(path, layers, used)
    if head == "fcn8s_learned":
        names = {"head.doublings.0": "upscore2", "head.doublings.1": "upscore_pool4", "head.upscore": "upscore8"}
        places |= {f"{key}.weight": Place(name, 0) for key, name in names.items()}
    else:
        wrong = [name for name in ups if not is_bilinear(path, layers, name)]
        if wrong:
            raise unfit(path, head, [f"{name}, which is not the bilinear kernel" for name in wrong])
        used += ups
    return filled(path, layers, made, places, used, _PREPROCESSING, flipped=("encoder.features.0.weight",))


def _check_scales(path: Path, layers: Layers, names: Iterable[str]) -> None:
    with BoundedFile(path, ".caffemodel file") as file:
        for name, wanted in zip(names, (0.01, 0.0001)):
            blobs = layers.get(name, ())
            if not blobs or blobs[0].kind != "float32" or not np.allclose(file.float32(blobs[0]), wanted, rtol=1e-3):
                raise unfit(path, "FCN-8s at once", [f"{name}, which is not {wanted} throughout"])
