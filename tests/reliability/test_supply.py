"""What comes from elsewhere: no network at import, versions at both ends of what is declared, hashes of downloads."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

IMPORTS = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        raise AssertionError(f"{event} {arguments}")
sys.addaudithook(refuse)
import importlib, pkgutil, warnings
warnings.simplefilter("ignore")
import ducseg
for module in pkgutil.walk_packages(ducseg.__path__, "ducseg."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(sum(name.startswith("ducseg") for name in sys.modules))
"""


@pytest.mark.slow
def test_no_network_at_import() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    found = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr[-2000:]
    assert int(found.stdout) > 200


def declared() -> dict[str, str]:
    """Package -> the lowest version that pyproject.toml allows, of what is always installed."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    found = (re.fullmatch(r"([\w.-]+)>=([\d.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_every_dependency_has_a_lower_bound_that_holds_here() -> None:
    def numbers(version: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", version)[:3]]

    lowest = declared()
    assert len(lowest) == len(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    for package, version in lowest.items():
        assert numbers(importlib.metadata.version(package)) >= numbers(version), package


TRIED = """
import json, sys, warnings
from pathlib import Path
import numpy as np, cv2
from ducseg.cli import main
folder = Path(sys.argv[1])
assert np.__file__.startswith(sys.argv[2]) and cv2.__file__.startswith(sys.argv[2])
few = "--num-train 4 --num-val 1 --size 64 128 --workers 1".split()
assert main(["data", "synth", "cityscapes", str(folder / "city"), *few]) == 0
assert main(["data", "check", "cityscapes", str(folder / "city"), "--workers", "1"]) in (0, 1)
options = (
    "--model.encoder resnet18 --model.weights None --model.recalibrate-batches 0 --model.width 8 --model.aspp 0 "
    "--augment.crop-size 32 48 --optimizer.batch-size 2 --optimizer.epochs 1 --data.workers 0 --run.device cpu"
).split()
city = ["--data.dataset", "cityscapes", "--data.root", str(folder / "city")]
assert main(["train", "synthetic-duc", *city, *options, "--out", str(folder / "run")]) == 0
pictures = str(folder / "city" / "leftImg8bit" / "val")
assert main(["predict", str(folder / "run"), pictures, "--out", str(folder / "out"), "--device", "cpu"]) == 0
assert main(["eval", str(folder / "run"), "--device", "cpu", "--json", str(folder / "scores.json")]) == 0
assert main(["report", str(folder / "run"), "--out", str(folder / "report.html")]) == 0
from ducseg.crf import dense_crf
marginals = dense_crf(np.full((3, 12, 14), 1 / 3, np.float32), np.zeros((12, 14, 3), np.uint8), iterations=1)
assert np.allclose(marginals.sum(0), 1)
print("all done")
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_lowest_versions_do(tmp_path: Path) -> None:
    """Of all but torch, which stays as it is here: another one is another build of gigabytes."""
    site, lowest = tmp_path / "lowest", {name: version for name, version in declared().items() if name != "torch"}
    exact = [f"{name}=={version}{'' if '.' in version else '.*'}" for name, version in lowest.items()]
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--target", str(site)]
    done = subprocess.run([*install, *exact], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the lowest versions do not install here: {done.stderr[-300:]}")
    places = os.pathsep.join([str(ROOT / "src"), str(site)])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", TRIED, tmp_path, site], capture_output=True, text=True, env=environment, timeout=800
    )
    assert found.stdout.endswith("all done\n"), found.stderr[-3000:]
