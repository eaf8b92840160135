"""`ducseg version`: what a report of a fault should hold."""

import json
import platform
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

from ducseg.version import __version__

__all__ = ["Options", "run"]

_NOT_FOR_USERS = ("dev", "docs")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Show the version, and the torch, devices and extras that are found; for the report of a fault."""

    json: bool = False
    """As JSON."""


def run(options: Options) -> int:
    """Exit status 1 where torch does not import."""
    device, torch = _torch()
    extras = _extras()
    found = {
        "ducseg": __version__,
        "folder": str(Path(__file__).resolve().parents[1]),
        "python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "torch": torch,
        "device": device,
        "extras": extras,
    }
    print(json.dumps(found, indent=1) if options.json else "\n".join(_lines(found)))
    return 0 if device else 1


def _lines(found: Mapping[str, object]) -> Iterator[str]:
    yield from (f"{name:9}{found[name]}" for name in ("ducseg", "folder", "python", "torch"))
    devices, extras = found["device"], found["extras"]
    assert isinstance(devices, list) and isinstance(extras, dict)
    yield from (f"{'device':9}{line}" for line in devices)
    for extra, packages in extras.items():
        missing = [package for package, number in packages.items() if number is None]
        state = f"pip install 'ducseg[{extra}]'" if missing else "found"
        some = f" (without {', '.join(missing)})" if 0 < len(missing) < len(packages) else ""
        yield from textwrap.wrap(f"{'extra':9}{extra:8} {state}{some}", 80, subsequent_indent=18 * " ")


def _torch() -> tuple[list[str], str]:
    """The devices, and torch's version; none, and the reason, where it does not import."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a library that it links to is missing
        return [], f"does not import: {error}"
    devices = [f"cpu, {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            seen = torch.cuda.get_device_properties(index)
            devices.append(f"cuda:{index}, {seen.name}, {seen.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices, str(torch.__version__)


def _extras() -> dict[str, dict[str, str | None]]:
    """Extra -> package -> its version, None where it is not installed. Nothing is imported."""
    try:
        described = metadata("ducseg")
    except PackageNotFoundError:  # run from the sources
        return {}
    extras: dict[str, dict[str, str | None]] = {}
    for line in described.get_all("Requires-Dist") or []:
        belongs = re.search(r"""extra == ["']([\w-]+)["']""", line)
        if belongs and belongs[1] not in _NOT_FOR_USERS:
            name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
            extras.setdefault(belongs[1], {})[name] = _installed(name)
    return dict(sorted(extras.items()))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
