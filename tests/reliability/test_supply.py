"""What comes from elsewhere: no network at import, versions at both ends of what is declared, hashes of downloads."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from sysconfig import get_path

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
    "--model.encoder resnet18 --model.weights None --model.width 8 --model.aspp 0 "
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


CORE = ("ops/test_duc.py", "ops/test_dilate.py", "crf/test_dense_crf.py", "crf/test_crf_lattice.py", "metrics",
        "data/files", "train/test_step.py", "weights/test_hub.py")  # fmt: skip
"""Quick tests of what each package is for, but not of how tyro and rich lay out their help."""


@pytest.fixture(scope="module")
def lowest_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment with the lowest versions of all that ducseg needs.

    But for torch, of which each version is another build of gigabytes: that, and the tools of the tests, come from
    here, after what is installed there. Skipped where no package index answers.
    """
    folder = tmp_path_factory.mktemp("lowest")
    venv.create(folder, with_pip=False, symlinks=True)
    python, (site,) = folder / "bin" / "python", (folder / "lib").glob("python3*/site-packages")
    exact = [f"{name}=={version}" for name, version in declared().items() if name != "torch"]
    exact = [one if "." in one.partition("==")[2] else f"{one}.*" for one in exact]
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "-q"]
    done = subprocess.run([*install, "--only-binary", ":all:", *exact], capture_output=True, text=True)
    if done.returncode and re.search("Retrying|onnection|name resolution|timed out", done.stderr):
        pytest.skip(f"no package index answers: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (site / "torch").exists(), "something brought another torch"
    (site / "other.pth").write_text(f"{get_path('purelib')}\n{ROOT / 'src'}\n")
    return python


def _with(python: Path, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    given = [str(python), *map(str, arguments)]
    found = subprocess.run(given, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=800)
    assert found.returncode == 0, (found.stdout + found.stderr)[-4000:]
    return found.stdout


VERSIONS = """
import importlib.metadata, importlib, sys
for package in sys.argv[1:]:
    print(package, importlib.metadata.version(package))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_lowest_versions_do(lowest_versions: Path, tmp_path: Path) -> None:
    """A data set is drawn and checked, a network trained, scored, asked for labels and reported."""
    names = [name for name in declared() if name != "torch"]
    found = dict(line.split() for line in _with(lowest_versions, "-c", VERSIONS, *names).splitlines())
    for name, version in found.items():
        low = declared()[name]
        assert version.split(".")[: low.count(".") + 1] == low.split("."), f"{name} {version}"
    done = _with(lowest_versions, "-c", TRIED, tmp_path, lowest_versions.parents[1])
    assert done.endswith("all done\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_quick_tests_of_the_core_pass_with_the_lowest_versions(lowest_versions: Path) -> None:
    """Warnings of old releases are no errors here: they may call what newer ones have marked as old."""
    tests = [ROOT / "tests" / place for place in CORE]
    options = ["-p", "no:cacheprovider", "-o", "filterwarnings=default", "--timeout", "600"]
    assert " passed" in _with(lowest_versions, "-m", "pytest", *options, *tests)


DOWNLOADS = {
    ("weights/download.py", "snapshot_download"), ("weights/encoders.py", "hf_hub_download"),
    ("weights/encoders.py", "load_state_dict_from_url"),
}  # fmt: skip
"""All that downloads, each of which is compared with a hash: tests/weights/test_hub.py, test_torchvision_weights.py."""


OURS = {"download"}
"""`ducseg.weights.download.download` itself."""


def test_what_downloads_is_known_and_compared_with_a_hash() -> None:
    named = r"urlopen|urlretrieve|\w*download\w*|load_state_dict_from_url|create_connection|create_model"
    found = set()
    for file in (ROOT / "src" / "ducseg").rglob("*.py"):
        if not re.search(named, text := file.read_text()):
            continue
        parts = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        for part in parts:
            names = {_name(call) for call in _calls(part)}
            for call in _calls(part):
                place = (file.relative_to(ROOT / "src" / "ducseg").as_posix(), _name(call))
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                if place in DOWNLOADS:
                    assert options.get("check_hash") == "True" or "checked" in names, place
                    found.add(place)
                elif place[1] == "create_model":
                    assert options["pretrained"] == "False", "timm would download without a comparison"
                else:
                    assert place[1] in OURS or not re.fullmatch(named, place[1]), f"{place}, line {call.lineno}"
    assert found == DOWNLOADS


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]
