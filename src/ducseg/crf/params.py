"""The five parameters of the paper's dense CRF, and the JSON file that carries them with the number of iterations."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ducseg.errors import explain, real, whole
from ducseg.files import parse_json, write_whole

__all__ = ["DEFAULT_ITERATIONS", "PUBLISHED", "CrfParams", "load_params", "save_params"]

DEFAULT_ITERATIONS = 10


@dataclass(frozen=True)
class CrfParams:
    """Standard deviations and weights of the two pairwise terms (the paper's section 4.1, Kraehenbuehl's equation 3).

    Pixels i, j at p with colour I attract each other's label by w1 exp(-|pi-pj|^2 / 2 sigma_alpha^2 - |Ii-Ij|^2 / 2
    sigma_beta^2) + w2 exp(-|pi-pj|^2 / 2 sigma_gamma^2). sigma_alpha, sigma_gamma in pixels; sigma_beta in grey
    levels (0..255); w1, w2 in nats. Raises UserError unless the sigmas are positive and the weights not negative.
    """

    sigma_alpha: float = 15.0
    sigma_beta: float = 3.0
    w1: float = 3.0
    sigma_gamma: float = 1.0
    w2: float = 3.0

    def __post_init__(self) -> None:
        fix = "The paper's values are 15, 3, 3, 1, 3; a weight of 0 switches its term off."
        for field in fields(self):
            is_width = field.name.startswith("sigma")
            value = real(f"CRF parameter {field.name}", getattr(self, field.name), positive=is_width, fix=fix)
            object.__setattr__(self, field.name, value)

    def to_json(self, iterations: int = DEFAULT_ITERATIONS) -> str:
        """The five parameters and the iterations as a JSON object."""
        return json.dumps({**asdict(self), "iterations": check_iterations(iterations)}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> tuple["CrfParams", int]:
        """(parameters, iterations) from `to_json`'s text; what is absent has its default. Else raises UserError."""
        try:
            values: Any = parse_json(text)
        except ValueError as error:
            raise explain("CRF settings", found=f"no JSON ({error})", needed="a JSON object", fix=_EXAMPLE) from error
        known = {field.name for field in fields(cls)} | {"iterations"}
        if not isinstance(values, dict) or not values.keys() <= known:
            found = f"unknown {', '.join(sorted(values.keys() - known))}" if isinstance(values, dict) else "no object"
            raise explain("CRF settings", found=found, needed=f"some of {', '.join(sorted(known))}", fix=_EXAMPLE)
        iterations = check_iterations(values.pop("iterations", DEFAULT_ITERATIONS))
        return cls(**values), iterations


PUBLISHED = {
    "deeplabv2": CrfParams(sigma_alpha=67.0, sigma_beta=3.0, w1=4.0, sigma_gamma=1.0, w2=3.0),
    "gcrf": CrfParams(sigma_alpha=31.0, sigma_beta=4.0, w1=3.0, sigma_gamma=1.0, w2=3.0),
}
"""Of systems that the paper compares with, by name, each with 10 iterations: kazuto1011/deeplab-pytorch,
configs/voc12.yaml; siddharthachandra/gcrf, scripts/apply_dense_crf.m."""

_EXAMPLE = f"For example: {json.dumps(asdict(CrfParams()) | {'iterations': DEFAULT_ITERATIONS})}"


def check_params(params: object) -> CrfParams:
    """The parameters, where they are some; else UserError."""
    if not isinstance(params, CrfParams):
        fix = "CrfParams(**settings) makes one of a dict, load_params of a file."
        raise explain("CRF parameters", found=f"{params!r:.80}", needed="a CrfParams", fix=fix)
    return params


def check_iterations(iterations: object) -> int:
    """A whole number of iterations, not below 0; else UserError."""
    return whole("CRF iterations", iterations, fix="Commonly 5 or 10.")


def save_params(path: Path | str, params: CrfParams, iterations: int = DEFAULT_ITERATIONS) -> None:
    """Write the JSON file that `--crf FILE` takes, whole or not at all; raises UserError as `write_whole`."""
    write_whole(Path(path), f"{params.to_json(iterations)}\n".encode())


def load_params(path: Path | str) -> tuple[CrfParams, int]:
    """(parameters, iterations) from a JSON file. Raises UserError when it is missing or holds something else."""
    path = Path(path)
    if not path.is_file():
        raise explain("CRF settings", found=f"no file {path}", needed="a JSON file", fix=_EXAMPLE)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise explain("CRF settings", found=f"{path}, which is no text", needed="a JSON file", fix=_EXAMPLE) from error
    return CrfParams.from_json(text)
