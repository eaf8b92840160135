"""The authors' network from the ONNX model zoo: exported by MXNet, so its initializers have MXNet's names."""

from pathlib import Path

from ducseg.models import Segmenter
from ducseg.weights.released.onnx_initializers import index
from ducseg.weights.released.symbol import assemble

__all__ = ["load"]


def load(onnx_path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """Read the initializers of an ONNX file of the authors' network that MXNet exported.

    What the network is comes from their names and shapes, as in `ducseg.weights.tusimple.load`; the graph itself and
    its constants are not read.

    Args:
        onnx_path: such as ResNet101-DUC-7.onnx of the ONNX model zoo.
        num_classes: as in `ducseg.weights.tusimple.load`.

    Returns:
        The segmenter in evaluation mode, with the authors' preprocessing: RGB minus the mean.

    Raises:
        UserError: not such a file, a broken one, one of another network, or with numbers in other files.
    """
    path = Path(onnx_path)
    # the others are constants of the export: the shape of a Reshape, a temperature
    arrays = {name: array for name, array in index(path).items() if name.startswith(("conv", "fc1_"))}
    return assemble(path, arrays, num_classes)
