"""`ducseg export`: write a network as ONNX, and only if the file answers as the network does."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ducseg.data.sample import Sample
from ducseg.errors import explain, listed
from ducseg.export.onnx import OPSET, description, exported_graph, with_description
from ducseg.export.parity import Parity, Reference, compare
from ducseg.export.quantize import Int8, quantized
from ducseg.files import find_checkpoint, is_there, parse_json, write_whole
from ducseg.inference.onnx_file import Output, parse_onnx
from ducseg.inference.onnx_predictor import OnnxPredictor
from ducseg.metrics.confusion import write_json
from ducseg.models.segmenter import Segmenter

__all__ = ["LEAST_EQUAL", "Exported", "check_name", "export_onnx", "report_path"]

LEAST_EQUAL = 0.9999
"""Share of equal labels below which nothing is written."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how alike it is.

    Attributes:
        parity: of the float graph with the network.
        int8: None, or what `quantized` found.
        int8_parity: of the quantised graph with the network, on the same pictures.
    """

    file: str
    output: Output
    about: str
    parity: Parity
    int8: dict[str, Any] | None = None
    int8_parity: Parity | None = None

    def to_json(self) -> dict[str, Any]:
        """{"output", "opset", "compared_on", "float": the fields of `Parity`, "int8": None or with "parity" too}."""
        int8 = None
        if self.int8 is not None and self.int8_parity is not None:
            int8 = {**self.int8, "parity": self.int8_parity.to_json()}
        return {
            "output": self.output, "opset": OPSET, "compared_on": self.about, "float": self.parity.to_json(),
            "int8": int8,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """To be printed."""
        found = self.parity.lines("the float file")
        if self.int8 is None or self.int8_parity is None:
            return found
        kept = self.int8["kept_in_float"]
        layers = f"int8: {self.int8['layers'] - len(kept)} of {self.int8['layers']} convolutions"
        if kept:
            layers += f"; in float stay {listed(kept)}"
        agreement = f"int8: agreement with the float labels {self.int8['agreement']:.4f}, bound {self.int8['bound']:g}"
        return [*found, layers, agreement, *self.int8_parity.lines("the int8 file")]


def export_onnx(
    segmenter: Segmenter,
    out: Path,
    samples: Iterable[Sample],
    *,
    output: Output = "labels",
    int8: Int8 | None = None,
    about: str = "pictures",
) -> Exported:
    """Write a network as one ONNX file, see `ducseg.export.onnx`, and its report beside it as JSON.

    Args:
        segmenter: moved to the CPU, in evaluation mode from now on.
        out: the file; the report is FILE.json, where there is none yet or an earlier report.
        samples: what both are compared on before anything is written; gone through twice with int8.
        output: what the graph gives.
        int8: quantise, see `ducseg.export.quantize`; the float graph is compared first all the same.
        about: what the samples are, for the report.

    Raises:
        UserError: a FILE.json that is no report; pictures of another kind than the network's; fewer than 99.99 % of the
            labels are equal, or no agreement of int8 within its bound (nothing is written then); what ONNX cannot hold;
            a disk that refuses the file.
    """
    check_name(out)
    reference = Reference(segmenter, output)
    graph = exported_graph(segmenter, output)
    file = _opened(out, graph, segmenter, output)
    scoring = file if output != "labels" else _opened(out, exported_graph(segmenter, "scores"), segmenter, "scores")
    parity = compare(reference, file, samples, scoring=scoring)
    _check(out, parity)
    found = Exported(file=out.name, output=output, about=about, parity=parity)
    if int8 is not None:
        graph, chosen = quantized(graph, file, int8)
        judged = compare(reference, _opened(out, graph, segmenter, output), samples)
        found = replace(found, int8=chosen, int8_parity=judged)
    report = found.to_json()
    write_whole(out, with_description(graph, description(segmenter, output, int8=report["int8"], export=report)))
    write_json(report_path(out), report)
    return found


def report_path(out: Path) -> Path:
    """Where the report of a file lies: FILE.json beside FILE.onnx."""
    return out.with_suffix(".json")


def check_name(out: Path) -> None:
    """Raise `UserError` for a name without the ending .onnx, or whose report would lie over or hide what is no report.

    A model.json that is written into a run folder hides the run's checkpoints.
    """
    if out.suffix != ".onnx" or out.is_dir():
        raise explain("--out", found=str(out), needed="the name of a file that ends in .onnx", fix="Add the ending.")
    report = report_path(out)
    hides = not is_there(report) and report.name == "model.json" and find_checkpoint(out.parent) is not None
    if hides or (is_there(report) and not _is_report(report)):
        raise explain(
            f"--out {out}",
            found=f"a checkpoint in {out.parent}" if hides else f"{report}, which is no report of an export",
            needed=f"a name whose report, {report.name}, may be written beside it",
            fix="Choose another --out.",
        )


def _is_report(path: Path) -> bool:
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"output", "opset", "compared_on", "float"} <= found.keys()


def _opened(out: Path, graph: Any, segmenter: Segmenter, output: Output) -> OnnxPredictor:
    """The graph as it will be read back, from its bytes."""
    return OnnxPredictor(parse_onnx(out, with_description(graph, description(segmenter, output))))


def _check(out: Path, parity: Parity) -> None:
    if parity.equal_labels < LEAST_EQUAL:
        raise explain(
            f"export to {out}",
            found=f"{100 * parity.equal_labels:.4f} % of {parity.pixels:,} labels equal in onnxruntime and PyTorch",
            needed=f"at least {100 * LEAST_EQUAL} %; nothing was written",
            fix="Choose other pictures to compare on (--check): of an untrained network, chance decides many labels.",
        )
