"""What a dense CRF refuses, and in which words."""

from ducseg.devices import available_memory
from ducseg.errors import explain

__all__ = ["available_memory", "check_memory", "check_range", "check_shapes"]

SUM_TOLERANCE = 1e-2  # half precision over 150 classes stays below it; a missing softmax does not
RANGE_TOLERANCE = 1e-4


def check_shapes(probabilities: tuple[int, ...], kind: str, image: tuple[int, ...], image_kind: str) -> None:
    """Shapes and types, by name: probabilities (L, H, W) of a float type, image (H, W, 3) uint8, the same H and W."""
    if len(probabilities) != 3 or 0 in probabilities:
        raise explain(
            "CRF probabilities",
            found=f"shape {probabilities}",
            needed="(classes, height, width), none 0",
            fix="Pass one picture at a time; ducseg.crf.DenseCRF takes batches.",
        )
    if "float" not in kind:
        raise explain(
            "CRF probabilities",
            found=f"type {kind}",
            needed="a floating type",
            fix="Pass the softmax of the scores, not the label map.",
        )
    if len(image) != 3 or image[2] != 3:
        raise explain(
            "the CRF's image",
            found=f"shape {image}",
            needed="(height, width, 3)",
            fix="Colours come last; repeat a grey picture three times; PIL: image.convert('RGB').",
        )
    if image_kind != "uint8":
        raise explain(
            "the CRF's image",
            found=f"type {image_kind}",
            needed="uint8, 0 to 255",
            fix="Pass the picture as read from its file, before normalisation.",
        )
    if image[:2] != probabilities[1:]:
        raise explain(
            "the CRF's image and probabilities",
            found=f"{_size(image[:2])} and {_size(probabilities[1:])}",
            needed="the same height and width",
            fix="Resize the probabilities to the image, or the image to them.",
        )


def _size(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]}"


def check_range(least: float, greatest: float, worst_sum: float) -> None:
    """Probabilities by their least, greatest and largest |sum over classes - 1|; a NaN makes the last NaN."""
    if worst_sum != worst_sum:
        raise explain(
            "CRF probabilities",
            found="NaN (or infinities that cancel)",
            needed="numbers from 0 to 1",
            fix="Look at the network's scores: training may have diverged.",
        )
    if least < -RANGE_TOLERANCE or greatest > 1 + RANGE_TOLERANCE:
        raise explain(
            "CRF probabilities",
            found=f"values from {least:.4g} to {greatest:.4g}",
            needed="0 to 1",
            fix="Pass the softmax of the scores over the classes.",
        )
    if worst_sum > SUM_TOLERANCE:
        raise explain(
            "CRF probabilities",
            found=f"a pixel whose classes sum to 1 only within {worst_sum:.4g}",
            needed=f"within {SUM_TOLERANCE:g}",
            fix="Take the softmax over the classes (the first axis).",
        )


def check_memory(needed: int, available: int, classes: int, height: int, width: int) -> None:
    """Refuse before allocating what is not there."""
    if needed > available:
        raise explain(
            f"memory for a CRF over {classes} classes at {height} x {width}",
            found=f"{available / 2**30:.2f} GiB free",
            needed=f"about {needed / 2**30:.2f} GiB",
            fix="Use fewer classes or a smaller picture, or cut the picture into tiles.",
        )
