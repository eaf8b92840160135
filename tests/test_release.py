"""A release: sdist and wheel, installed without the checkout; types seen from outside; the files that go with one."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path
from sysconfig import get_path

import pytest
import yaml

import ducseg

REPOSITORY = Path(__file__).resolve().parents[1]

USERS_SCRIPT = """\
import numpy as np
import torch

import ducseg
from ducseg.inference.predictor import Predictor
from ducseg.models import Segmenter, build
from ducseg.ops import DenseUpsampling, check, fold_labels, unfold

predictor: Predictor = ducseg.load("RUN", scales=(1.0, 1.5), flip=True)
image = np.zeros((8, 8, 3), np.uint8)
labels = predictor(image)
shares: float = float(predictor.probabilities(image)[0].mean())
names: tuple[str, ...] = predictor.model.classes.names
segmenter: Segmenter = build(encoder="resnet18", head="duc", num_classes=3)
scores: torch.Tensor = unfold(DenseUpsampling(in_channels=8, num_classes=3, factor=2)(torch.zeros(1, 8, 4, 4)))
holes: int = check([1, 2, 5]).holes
"""
MISTAKES = {
    'ducseg.load("RUN", scale=2)': "call-arg",
    "wrong: str = predictor.model.classes.names": "assignment",
    "check(5)": "arg-type",
    "predictor.labels_of([image]).shape": "attr-defined",
}


def test_one_version_and_its_changes() -> None:
    newest = re.findall(r"^## (\d+\.\d+\.\d+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"]
    assert newest == cited == ducseg.__version__


def test_commits_are_checked_by_what_ci_runs() -> None:
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lint = (REPOSITORY / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert [hook["entry"].removeprefix(".venv/bin/") for hook in hooks] == re.findall(r"\$\(BIN\)/(.*)", lint)


@pytest.mark.parametrize(
    "form", sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda f: f.stem
)
def test_forms_for_issues_ask_for_something(form: Path) -> None:
    asked = yaml.safe_load(form.read_text())
    assert asked["name"] and asked["description"]
    assert {field["type"] for field in asked["body"]} <= {"input", "textarea"}
    assert len({field["id"] for field in asked["body"]}) == len(asked["body"])


def test_the_dockerfile_has_no_fault_known_to_hadolint() -> None:
    hadolint = Path(get_path("scripts")) / "hadolint"
    if not hadolint.is_file():
        pytest.skip("hadolint is not installed (make test tries to)")
    found = subprocess.run([hadolint, REPOSITORY / "Dockerfile"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_dockerfile_takes_what_is_there() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (given,) = re.findall(r"ARG EXTRAS=(.*)", text)
    assert set(given.split(",")) <= extras.keys()
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()}
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == kept and all((REPOSITORY / name).exists() for name in copied)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from its content alone."""
    folder: Path = tmp_path_factory.mktemp("built")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split("\0")[:-1]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    _build("sdist", source, folder)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    _build("wheel", next((folder / "unpacked").iterdir()), folder)
    return folder


def _build(kind: str, source: Path, out: Path) -> None:
    code = f"from setuptools.build_meta import build_{kind}; build_{kind}({str(out)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def installed(built: Path) -> Path:
    """Python of an environment with the wheel; what ducseg needs comes from this one, ducseg itself does not."""
    venv.create(built / "empty", with_pip=False, symlinks=True)
    python = built / "empty" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (place,) = (built / "empty" / "lib").glob("python3*/site-packages")
    (place / "needed.pth").write_text(f"{get_path('purelib')}\n")
    return python


def _run(installed: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([installed, *arguments], cwd=cwd, env=given, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_sdist_holds_what_a_packager_needs(built: Path) -> None:
    (source,) = (built / "unpacked").iterdir()
    for name in (
        "LICENSE",
        "CHANGELOG.md",
        "constraints.txt",
        "tests/conftest.py",
        "docs/README.md",
        "src/ducseg/py.typed",
    ):
        assert (source / name).is_file(), name
    assert not list(source.glob("pretrained")), "networks for research alone are no part of an Apache-2.0 release"


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    imported = _run(installed, "-c", "import ducseg; print(ducseg.__version__, ducseg.__file__)", cwd=tmp_path)
    number, place = imported.stdout.split()
    assert number == ducseg.__version__ and Path(place).is_relative_to(installed.parents[1])
    told = _run(installed.with_name("ducseg"), "version", cwd=tmp_path)
    assert told.returncode == 0 and f"ducseg   {number}" in told.stdout and "extra    export" in told.stdout
    holes = _run(installed.with_name("ducseg"), "hdc", "2", "2", "2", "--figure", "gridding.png", cwd=tmp_path)
    assert holes.returncode == 1 and (tmp_path / "gridding.png").stat().st_size > 10_000
    served = "import ducseg.serve as s, pathlib as p; print(len(list(p.Path(s.__path__[0], 'static').iterdir())))"
    ours = list((REPOSITORY / "src" / "ducseg" / "serve" / "static").iterdir())
    assert int(_run(installed, "-c", served, cwd=tmp_path).stdout) == len(ours)


SHORT_DEMO = """\
from dataclasses import replace
import ducseg.experiments.synthetic as made
from ducseg.cli import demo, main
from ducseg.data.synthetic.cityscapes import write_cityscapes

def short(whole):
    return lambda: replace(
        whole(),
        data=replace(whole().data, workers=0),
        augment=replace(whole().augment, crop_size=(64, 128)),
        optimizer=replace(whole().optimizer, epochs=1),
        run=replace(whole().run, threads=1),
    )

for name in ("synthetic_bilinear", "synthetic_duc", "synthetic_pyramid"):
    setattr(made, name, short(getattr(made, name)))
demo._make_scenes = lambda _config, root, seed: write_cityscapes(
    root, num_train=4, num_val=4, height=64, width=128, seed=seed
)
raise SystemExit(main(["demo", "--out", "demo"]))
"""


@pytest.mark.slow
def test_the_demo_of_the_wheel_ends(installed: Path, tmp_path: Path) -> None:
    """All of it on eight small scenes for one epoch: drawn, three networks trained and scored, the report written."""
    done = _run(installed, "-c", SHORT_DEMO, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("report: demo/report.html\n"), done.stdout + done.stderr
    out = tmp_path / "demo"
    assert len(list((out / "scenes").rglob("*_leftImg8bit.png"))) == 8
    found = json.loads((out / "scores.json").read_text())
    assert list(found) == ["bilinear", "duc", "pyramid"] and all(0 < one["mean_iou"] < 1 for one in found.values())
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4 and "pyramid of DUCs" in page


@pytest.mark.slow
def test_a_users_script_is_checked_against_our_types(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(USERS_SCRIPT)
    (tmp_path / "wrong.py").write_text(USERS_SCRIPT + "\n".join(MISTAKES) + "\n")
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        str(installed),
        "--cache-dir",
        str(tmp_path),
    ]
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    told = subprocess.run([*mypy, "right.py", "wrong.py"], cwd=tmp_path, env=given, capture_output=True, text=True)
    found = dict(re.findall(r"wrong\.py:(\d+): error: .*\[([\w-]+)\]", told.stdout))
    first = USERS_SCRIPT.count("\n") + 1
    assert "right.py" not in told.stdout, told.stdout
    assert found == {str(first + place): code for place, code in enumerate(MISTAKES.values())}, told.stdout
