"""The model card (README.md) of a checkpoint, written from what of its `model.json` is public, and nothing else."""

import math
from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ducseg.weights.published import public

__all__ = ["model_card"]

_TAGS = ["semantic-segmentation", "dense-upsampling-convolution", "hybrid-dilated-convolution", "pytorch"]
_PAPER = "[Understanding Convolution for Semantic Segmentation](https://arxiv.org/abs/1702.08502)"


def model_card(
    description: dict[str, Any],
    repo_id: str | None = None,
    *,
    about: str | None = None,
    license_name: str | None = None,
) -> str:
    """The card of a checkpoint as Markdown with the Hub's YAML head.

    Args:
        description: the content of `model.json`.
        repo_id: the Hub id that its snippet loads; None: a placeholder.
        about: Markdown that follows the first sentence as it is.
        license_name: of the terms that its data put on it; None: the head names no licence.
    """
    description = public(description)
    architecture, metrics = description["architecture"], description.get("metrics") or {}
    extra = description.get("extra") or {}
    name = (extra.get("config") or {}).get("name") or f"{architecture['encoder']}-{architecture['head']}"
    data = (extra.get("config") or {}).get("data") or {}
    head = ModelCardData(
        library_name="ducseg",
        license="other" if license_name else None,
        license_name=license_name,
        pipeline_tag="image-segmentation",
        tags=_TAGS,
        model_name=name,
        eval_results=list(_results(metrics, data)) or None,
    )
    parts = [
        f"---\n{head.to_yaml()}\n---\n\n# {name}",
        f"A semantic segmentation network of `ducseg` (pip install ducseg): {_in_words(architecture)} ({_PAPER}).",
        *([about.strip()] if about else []),
        _SNIPPET.format(repo_id=repo_id or "OWNER/NAME", picture=_picture(description["preprocessing"])),
        f"## Classes\n\n{', '.join(entry['name'] for entry in description['classes'])}",
        f"## Preprocessing\n\n{_preprocessing(description['preprocessing'])}; any size. `ducseg` does this.",
        *_score_part(metrics, data),
        *_training_part(extra),
        "## Versions\n\n" + ", ".join(f"{key} {value}" for key, value in (description.get("versions") or {}).items()),
    ]
    return "\n\n".join(parts) + "\n"


_SNIPPET = """## Use

```python
import cv2, ducseg
predictor = ducseg.load("{repo_id}")
image = {picture}, any size
labels = predictor(image)                                         # uint8 (H, W)
print([predictor.model.classes.names[i] for i in set(labels.ravel())])
```"""


def _picture(preprocessing: dict[str, Any]) -> str:
    """How the snippet reads a picture."""
    channels, dtype = len(preprocessing["mean"]), preprocessing.get("dtype", "uint8")
    if (channels, dtype) == (3, "uint8"):
        return 'cv2.imread("picture.png")[:, :, ::-1]                     # RGB uint8 (H, W, 3)'
    return f'ducseg.data.files.channels.read_channels("picture.tif")   # {dtype} (H, W, {channels})'


def _preprocessing(values: dict[str, Any]) -> str:
    channels, dtype = len(values["mean"]), values.get("dtype", "uint8")
    rgb = (channels, dtype) == (3, "uint8")
    pictures, scale = ("RGB", " (0 to 255)") if rgb else (f"{channels} channels of {dtype}", "")
    return f"{pictures} minus {_numbers(values['mean'])}, divided by {_numbers(values['std'])}{scale}"


def _in_words(architecture: dict[str, Any]) -> str:
    heads = {
        "duc": f"dense upsampling convolution (cell {architecture['cell']})",
        "bilinear": "bilinear upsampling",
        "pyramid": "a pyramid of dense upsampling convolutions",
        "deconv": "one transposed convolution",
        "deconv2": "two transposed convolutions",
    }
    dilation = architecture["dilation"]
    rates = f'schedule "{dilation}"' if isinstance(dilation, str) else f"rates {dilation}"
    aspp = f"{architecture['aspp']} ASPP paths" if architecture["aspp"] else "no ASPP"
    return (
        f"{architecture['encoder']} at output stride {architecture['output_stride']}, dilation {rates}, {aspp}, "
        f"{heads.get(architecture['head'], architecture['head'])}, {architecture['num_classes']} classes"
    )


def _results(metrics: dict[str, Any], data: dict[str, Any]) -> Iterator[EvalResult]:
    for key, name in (("mean_iou", "mean IoU"), ("pixel_accuracy", "pixel accuracy")):
        value = metrics.get(key)
        if isinstance(value, float) and math.isfinite(value):
            dataset = str(data.get("dataset") or "unknown")
            yield EvalResult(
                task_type="image-segmentation", dataset_type=dataset, dataset_name=dataset,
                dataset_split=data.get("val_split"), metric_type=key, metric_name=name, metric_value=round(value, 4),
            )  # fmt: skip


def _score_part(metrics: dict[str, Any], data: dict[str, Any]) -> Iterator[str]:
    if not metrics:
        return
    where = ", ".join(str(data[key]) for key in ("dataset", "val_split") if key in data)
    where = where or "where it was evaluated in training"
    rows = [f"| {name} | {_percent(score.get('iou'))} |" for name, score in (metrics.get("classes") or {}).items()]
    rows.append(f"| **mean** | **{_percent(metrics.get('mean_iou'))}** |")
    yield (
        f"## Scores\n\nIoU in per cent on {where}; a dash: not defined, no such pixel.\n\n| class | IoU |\n|---|---|\n"
        + ("\n".join(rows))
    )


def _training_part(extra: dict[str, Any]) -> Iterator[str]:
    if extra.get("command"):
        step = f" (checkpoint of step {extra['step']})" if "step" in extra else ""
        yield f"## Made by\n\n    {extra['command']}\n{step}".rstrip()


def _percent(value: Any) -> str:
    return f"{100 * value:.1f}" if isinstance(value, float) and math.isfinite(value) else "-"


def _numbers(values: list[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
