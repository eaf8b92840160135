"""A trained network as one ONNX graph: pictures of any size as stored in, labels out, nothing left to do around it.

    images (N, H, W, C)  ->  labels uint8 (N, H, W), or scores or probabilities float32 (N, L, H, W)

Images are RGB uint8, or the C channels of uint8, uint16 or float32 that the network was trained on; float32 values that
are no finite numbers count as the mean of their channel's others in the picture. Normalisation, padding to multiples of
d, the network with its batch norms folded into its convolutions, the shuffle, cropping back and the argmax are inside;
N, H and W are free, from 1 on. Worked example, ResNet-101-DUC, L = 19: images 1x513x1024x3 -> padded 1x3x520x1024 ->
folded labels 1x1x64x65x128 -> labels 1x513x1024.

The graph is traced (PyTorch's TorchScript exporter), not made by torch.export: the network's forward has no branch on
values or, in a graph, on sizes, so that one trace holds for every size; torch.export specialises to sizes above d, and
takes 3 to 15 s of a core where the trace takes 0.3.
"""

import io
import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ducseg.errors import UserError, explain, package
from ducseg.inference.onnx_file import INSTALL, METADATA, Output
from ducseg.models.fuse import fuse_batch_norm
from ducseg.models.segmenter import Segmenter
from ducseg.version import __version__
from ducseg.weights.model_json import FORMAT
from ducseg.weights.published import public

__all__ = ["OPSET", "description", "exported_graph", "scores_of", "with_description"]

OPSET = 17
"""Of the ONNX operators. Nothing newer is used (quantisation per channel needs 13, exact resizes 11), and every runtime
since mid-2022 reads it: onnxruntime 1.12, OpenVINO 2022.3, TensorRT 8.6."""

_LEAST = 1e-30
"""Below the smallest probability that tells classes apart; its logarithm is finite."""

_TRACED = {"uint16": "uint8"}
"""What stands for a type that PyTorch's exporter does not know: the graph differs in its input's type alone."""

_PATHS = ("root", "patches_root", "coco_root", "classes")
"""Fields of a data configuration that may be paths of the machine that trained."""


class _Graph(nn.Module):
    """What is traced: pictures (N, H, W, C) to the wanted output."""

    def __init__(self, network: Segmenter, output: Output) -> None:
        super().__init__()
        self.network, self.output = network, output
        stored = network.preprocessing.dtype
        self.preprocessing = replace(network.preprocessing, dtype=_TRACED.get(stored, stored))

    def forward(self, pictures: Tensor) -> Tensor:
        images = self.preprocessing.normalise(pictures.permute(0, 3, 1, 2))
        if self.preprocessing.dtype == "float32":
            images = _filled(images)
        if self.output == "labels":
            return self.network.predict_labels(images)
        if self.output == "probabilities":
            return self.network.probabilities(images)
        return scores_of(self.network, images)


def _filled(images: Tensor) -> Tensor:
    """Values (N, C, H, W) that are no finite numbers as the mean of the picture's others there, 0 without others.

    As `fill_undefined`, to rounding: normalised, float32 holds their sum.
    """
    finite = images.abs() <= torch.finfo(images.dtype).max  # the exporter's isfinite computes in float64
    total = images.where(finite, 0.0).sum((2, 3), keepdim=True)
    return images.where(finite, total / finite.sum((2, 3), keepdim=True).clamp_min(1))


def scores_of(network: Segmenter, images: Tensor) -> Tensor:
    """Scores (N, L, H, W) whose softmax is the network's probabilities and whose argmax is its labels.

    Those of `Segmenter.forward`; of a network that resizes probabilities (DUC with cell > 1), their logarithms.
    """
    if network.resize_probabilities:
        return network.probabilities(images).clamp_min(_LEAST).log()
    scores: Tensor = network(images)
    return scores.float()


def exported_graph(segmenter: Segmenter, output: Output = "labels") -> Any:
    """The network as an onnx.ModelProto.

    Args:
        segmenter: on the CPU; left as it is.
        output: what the graph gives; "scores": see `scores_of`.

    Raises:
        UserError: the package onnx is missing; a network with what ONNX has no operator for.
    """
    onnx = package("onnx", what="ONNX files", install=INSTALL)
    graph = _Graph(fuse_batch_norm(segmenter), output).eval()
    d, taken = segmenter.output_stride, segmenter.preprocessing
    traced = getattr(torch, graph.preprocessing.dtype)
    example = torch.zeros(2, 3 * d + 1, 4 * d + 1, taken.num_channels, dtype=traced)
    free = {0: "N", 1: "H", 2: "W"}
    given = free if output == "labels" else {0: "N", 2: "H", 3: "W"}
    written = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes in Python are constants (they are traced), that this exporter ages
        try:
            torch.onnx.export(
                graph,
                (example,),
                written,  # type: ignore[arg-type]  # this exporter takes it
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=[output],
                dynamic_axes={"images": free, output: given},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise explain(
                f"export of {type(segmenter.encoder).__name__}",
                found=str(error).splitlines()[0][:200],
                needed=f"a network of operators that ONNX has at opset {OPSET}",
                fix="Take another encoder.",
            ) from error
    model = onnx.load_model_from_string(written.getvalue())
    model.graph.input[0].type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(taken.dtype))
    model.producer_name, model.producer_version = "ducseg", __version__
    return model


def description(segmenter: Segmenter, output: Output, **more: Any) -> dict[str, Any]:
    """What the file says of itself, JSON-able: `model.json` as far as it may be published, and `more`.

    Of the data that it was trained on all is there but where it lay.
    """
    try:
        architecture: dict[str, Any] | None = segmenter.architecture.to_json()
    except UserError:  # a part is someone's own
        architecture = None
    onnx = package("onnx", what="ONNX files", install=INSTALL)
    found = public(
        {
            "format": FORMAT,
            "architecture": architecture,
            "preprocessing": segmenter.preprocessing.to_json(),
            "classes": segmenter.classes.to_json(),
            "metrics": segmenter.record.get("metrics"),
            "versions": {"ducseg": __version__, "torch": torch.__version__},
            "extra": segmenter.record.get("extra"),
        }
    )
    found["versions"] |= {"onnx": onnx.__version__, "numpy": np.__version__}
    data = ((segmenter.record.get("extra") or {}).get("config") or {}).get("data")
    if data:
        kept = {key: value for key, value in data.items() if key not in _PATHS}
        found["extra"] = {**found["extra"], "config": {**found["extra"].get("config", {}), "data": kept}}
    return {**found, "output": output, "opset": OPSET, **more}


def with_description(model: Any, described: dict[str, Any]) -> bytes:
    """The file's bytes: the model with its metadata."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(described, allow_nan=False)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
