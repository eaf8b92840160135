"""Checkpoints to and from a stand-in for the Hub: what is sent, what comes back, what is said when it fails."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import ducseg
from ducseg.classes import CAMVID
from ducseg.errors import UserError
from ducseg.models import build
from ducseg.models.segmenter import Segmenter
from ducseg.weights import hub
from ducseg.weights.checkpoint import describe, load_segmenter, read_model_json, save_segmenter
from ducseg.weights.hub import save_pretrained
from ducseg.weights.model_card import model_card
from ducseg.weights.published import public

EXTRA: dict[str, Any] = {
    "command": "ducseg train camvid-resnet18-duc --data.root /home/someone/camvid --out=/home/someone/run --run.seed 3",
    "step": 40,
    "config": {
        "name": "camvid-resnet18-duc",
        "data": {"dataset": "camvid", "root": "/home/someone/camvid", "val_split": "val"},
    },
}
METRICS = {
    "mean_iou": 0.625,
    "pixel_accuracy": None,
    "classes": {name: {"iou": None if name == "bicyclist" else 0.5} for name in CAMVID.names},
}


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return build(encoder="resnet18", num_classes=11, width=8, aspp=0, cell=2, classes=CAMVID).eval()


def same(one: Segmenter, other: Segmenter) -> bool:
    images = torch.randn(1, 3, 41, 57, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(one(images), other(images)) and one.classes == other.classes


def test_a_folder_comes_back_as_it_was_with_its_card(segmenter: Segmenter, tmp_path: Path) -> None:
    save_pretrained(segmenter, tmp_path / "net", metrics=METRICS, extra=EXTRA)
    assert {path.name for path in (tmp_path / "net").iterdir()} == {"model.safetensors", "model.json", "README.md"}
    again = load_segmenter(tmp_path / "net")
    assert same(segmenter, again)
    recorded = read_model_json(tmp_path / "net")
    save_pretrained(again, tmp_path / "copy", metrics=recorded["metrics"], extra=recorded["extra"])
    for name in ("model.json", "README.md"):
        assert (tmp_path / "copy" / name).read_text() == (tmp_path / "net" / name).read_text()
    with pytest.raises(UserError, match="taken"):
        save_pretrained(again, tmp_path / "copy")


def test_scores_are_those_that_are_given_and_no_earlier_ones(segmenter: Segmenter, tmp_path: Path) -> None:
    save_pretrained(segmenter, tmp_path / "net", metrics=METRICS, extra=EXTRA)
    changed = load_segmenter(tmp_path / "net")
    with torch.no_grad():
        changed.encoder.conv1.weight.mul_(2)  # type: ignore[union-attr]
    save_pretrained(changed, tmp_path / "changed")
    assert read_model_json(tmp_path / "changed")["metrics"] is None
    assert "## Scores" not in (tmp_path / "changed" / "README.md").read_text()


def test_the_card_says_what_the_checkpoint_says(segmenter: Segmenter, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    save_pretrained(segmenter, tmp_path / "net", metrics=METRICS, extra=EXTRA, repo_id="me/net")
    card = ModelCard.load(tmp_path / "net" / "README.md")
    assert card.data.library_name == "ducseg" and card.data.pipeline_tag == "image-segmentation"
    assert [(r.metric_type, r.metric_value, r.dataset_name) for r in card.data.eval_results] == [
        ("mean_iou", 0.625, "camvid")
    ]
    for words in ("resnet18", "cell 2", "| pole | 50.0 |", "| bicyclist | - |", "62.5", "123.675", 'load("me/net")'):
        assert words in card.text, words
    assert "ducseg train camvid-resnet18-duc --data.root ... --out=... --run.seed 3" in card.text
    for path in (tmp_path / "net").iterdir():
        assert b"someone" not in path.read_bytes(), path


def test_the_cards_snippet_works(segmenter: Segmenter, tmp_path: Path) -> None:
    save_pretrained(segmenter, tmp_path / "me" / "net", repo_id="me/net")
    assert cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((20, 30, 3), np.uint8))
    card = (tmp_path / "me" / "net" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert any(name in done.stdout for name in CAMVID.names)


PRIVATE = {
    "command": "ducseg train ../acme --data.root=data/acme --model.weights acme.pth --out 'our run' --run.seed 3",
    "user": "acme",
    "note": "acme's",
    "step": 40,
    "machine": "acme-gpu7",
    "commit": "6923793",
    "config": {
        "name": "camvid-resnet18-duc",
        "data": {"dataset": "camvid", "root": "acme/wafers", "val_split": "../acme", "paths": ["acme"], "workers": 4},
        "model": {"encoder": "resnet18", "weights": "acme.pth"},
        "augment": {"crop_size": [32, 48]},
        "acme": {"acme key": 3},
    },
}


def test_what_is_not_on_the_list_stays(segmenter: Segmenter, tmp_path: Path) -> None:
    metrics = {**METRICS, "file": "acme/scores.json", "absent": ["bicyclist", "acme"], "acme/dir": 3}
    save_pretrained(segmenter, tmp_path / "net", metrics=metrics, extra=PRIVATE)
    written = read_model_json(tmp_path / "net")
    assert written["extra"] == {
        "step": 40,
        "commit": "6923793",
        "config": {
            "name": "camvid-resnet18-duc",
            "data": {"dataset": "camvid", "workers": 4},
            "model": {"encoder": "resnet18"},
            "augment": {"crop_size": [32, 48]},
        },
        "command": "ducseg train ... --data.root=... --model.weights ... --out ... --run.seed 3",
    }
    assert written["metrics"] == {**METRICS, "absent": ["bicyclist"]}
    assert public(written) == written
    card = (tmp_path / "net" / "README.md").read_text()
    assert "acme" not in card and "our run" not in card


@pytest.mark.parametrize(
    ("weights", "shown"),
    [("imagenet", True), ("timm:resnet18.a1_in1k", True), ("timm:/home/a", False), ("a.pth", False)],
)
def test_weights_are_published_by_their_public_names(segmenter: Segmenter, weights: str, shown: bool) -> None:
    extra = {"config": {"model": {"weights": weights}}, "command": f"ducseg train --model.weights {weights}"}
    found = public(describe(segmenter, extra=extra))["extra"]
    assert (weights in found["command"]) == (weights in str(found.get("config"))) == shown


def test_a_card_that_cannot_be_rendered_leaves_nothing(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("no card")

    monkeypatch.setattr(hub, "model_card", fail)
    with pytest.raises(RuntimeError, match="no card"):
        save_pretrained(segmenter, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_card_without_scores_or_command_is_whole(segmenter: Segmenter, tmp_path: Path) -> None:
    save_segmenter(tmp_path / "net", segmenter)
    text = model_card(json.loads((tmp_path / "net" / "model.json").read_text()))
    assert "## Scores" not in text and "## Made by" not in text and "OWNER/NAME" in text


SCRIPT = """
import json, sys, time, torch, ducseg
from ducseg.weights import load_segmenter
from ducseg.weights.hub import push_to_hub
time.sleep = lambda seconds: None  # huggingface_hub asks a server that is gone five times, with half a minute between
for line in sys.stdin:
    what, *rest = json.loads(line)
    try:
        if what == "push":
            said = push_to_hub(rest[0], rest[1], private=True, token="hf_x")
        elif what == "push-object":
            said = push_to_hub(load_segmenter(rest[0]), rest[1], token="hf_x")
        else:
            model = ducseg.load(rest[0]).model if len(rest) == 2 else load_segmenter(rest[0], revision=rest[2])
            torch.save(model.state_dict(), rest[1])
            said = "loaded"
    except ducseg.UserError as error:
        said = f"error: {error}"
    print(json.dumps(said), flush=True)
"""


@contextmanager
def client(address: str, cache: Path, **environment: str) -> Iterator[Callable[..., str]]:
    """A process beside the server that does what it is told: huggingface_hub reads its settings when it is imported."""
    settings = {
        "HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, env={**os.environ, **settings, **environment}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        asked, answers = process.stdin, process.stdout

        def ask(*arguments: object) -> str:
            asked.write(json.dumps([str(argument) for argument in arguments]) + "\n")
            asked.flush()
            return str(json.loads(answers.readline()))

        yield ask


@pytest.mark.slow
def test_pushed_and_loaded_again_nothing_private_goes_along(segmenter: Segmenter, tmp_path: Path) -> None:
    from local_hub import serve

    save_segmenter(tmp_path / "run", segmenter, metrics=METRICS, extra=EXTRA)
    for name in ("train_state.pt", "evil.py", "events.out.tfevents.1"):
        (tmp_path / "run" / name).write_bytes(b"not to be sent")
    cache = tmp_path / "cache"
    with serve() as server, client(server.address, cache) as ask:
        assert "commit" in ask("push", tmp_path / "run", "me/net")
        assert set(server.repos["me/net"]) == {"model.safetensors", "model.json", "README.md"} and server.private == [
            "me/net"
        ]
        assert not any(b"someone" in data or str(tmp_path).encode() in data for data in server.repos["me/net"].values())
        assert 'ducseg.load("me/net")' in server.repos["me/net"]["README.md"].decode()
        assert "commit" in ask("push-object", tmp_path / "run", "me/net")  # again: a new commit

        server.repos["me/net"] |= {"evil.py": b"raise SystemExit(9)", "pytorch_model.bin": b"pickle"}
        server.requests.clear()
        assert "loaded" in ask("load", "me/net", tmp_path / "tensors.pt")
        assert not any(name in request for request in server.requests for name in ("evil", "bin", "README"))
        loaded = torch.load(tmp_path / "tensors.pt", weights_only=True)
        assert all(torch.equal(loaded[name], value) for name, value in segmenter.state_dict().items())
        assert "loaded" in ask("load", "me/net", tmp_path / "b.pt", "main")
        assert "no such repository" in ask("load", "me/none", tmp_path / "c.pt")
        server.repos["me/pickle"] = {"pytorch_model.bin": b"\x80\x04cos\nsystem\n"}
        assert "error: checkpoint" in ask("load", "me/pickle", tmp_path / "c.pt")
        server.repos["me/bad"] = {**server.repos["me/net"], "model.safetensors": b"\xff" * 64}
        assert "model.safetensors" in ask("load", "me/bad", tmp_path / "c.pt")
    assert not (tmp_path / "c.pt").exists()
    with client(server.address, cache, HF_HUB_OFFLINE="1") as ask:
        assert "loaded" in ask("load", "me/net", tmp_path / "offline.pt")
    with client(server.address, cache) as ask:  # the server is gone, the cache is not
        assert "loaded" in ask("load", "me/net", tmp_path / "gone.pt")
        assert "error: Hub id me/other" in ask("load", "me/other", tmp_path / "c.pt")
        assert "error: Hub id me/net" in ask("push", tmp_path / "run", "me/net")
        (stored,) = cache.rglob("models--me--net/snapshots/*/model.safetensors")
        tensors = bytearray(stored.read_bytes())
        tensors[-1] ^= 1  # one bit of one number, which no format could tell
        stored.resolve().write_bytes(tensors)
        assert "that of the Hub's file" in ask("load", "me/net", tmp_path / "c.pt")


@pytest.mark.slow
def test_a_folder_with_a_card_goes_up_with_it(segmenter: Segmenter, tmp_path: Path) -> None:
    """What its data's owners ask for must not be lost on the way; nor does the file double."""
    from local_hub import serve

    terms = {"about": "## Data and terms\n\nFor research alone.", "license_name": "research-only"}
    save_pretrained(segmenter, tmp_path / "net", metrics=METRICS, repo_id="net", half=True, **terms)  # type: ignore[arg-type]
    save_segmenter(tmp_path / "notes", segmenter)
    (tmp_path / "notes" / "README.md").write_text("---\nnot: a card\n---\nmy notes")
    with serve() as server, client(server.address, tmp_path / "cache") as ask:
        assert "commit" in ask("push", tmp_path / "net", "me/net") and "commit" in ask(
            "push", tmp_path / "notes", "me/notes"
        )
    card = server.repos["me/net"]["README.md"].decode()
    assert "For research alone." in card and "license: other\nlicense_name: research-only\n" in card
    assert 'ducseg.load("me/net")' in card and 'load("net")' not in card
    assert len(server.repos["me/net"]["model.safetensors"]) == (tmp_path / "net" / "model.safetensors").stat().st_size
    assert b"my notes" not in server.repos["me/notes"]["README.md"]


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="Hub id"):
        ducseg.load("me/--net..")


def test_half_precision_on_disk_and_words_of_ones_own(tmp_path: Path) -> None:
    """Half the bytes, kernels rounded to 11 bits, float32 again once loaded; the card says what it was told to."""
    segmenter = build(encoder="resnet18", num_classes=11, width=8, aspp=0, classes=CAMVID)
    with torch.no_grad():
        large = next(p for p in segmenter.parameters() if p.ndim == 4)
        large.flatten()[0] = 1e6  # beyond float16: this tensor stays as it is
    save_pretrained(segmenter, tmp_path / "whole")
    save_pretrained(segmenter, tmp_path / "half", half=True, about="## Data\n\nRoads, for research only.")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    for (name, kept), tensor in zip(
        load_segmenter(tmp_path / "half").state_dict().items(), segmenter.state_dict().values(), strict=True
    ):
        assert kept.dtype == tensor.dtype, name
        torch.testing.assert_close(kept, tensor, rtol=2**-11, atol=1e-7)
        if tensor.ndim < 2 or tensor is large:
            assert torch.equal(kept, tensor), name
    assert "Roads, for research only." in (tmp_path / "half" / "README.md").read_text()


@pytest.mark.slow
def test_the_page_of_the_documentation_runs(segmenter: Segmenter, tmp_path: Path) -> None:
    from local_hub import serve

    from documented import REPOSITORY, python_blocks

    run = tmp_path / "runs" / "camvid-resnet18-duc"
    save_segmenter(run / "checkpoints" / "step-00000040", segmenter, metrics=METRICS, extra=EXTRA)
    (run / "best").symlink_to("checkpoints/step-00000040")
    (block,) = python_blocks(REPOSITORY / "docs" / "hub.md")
    with serve() as server:
        given = {**os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "hf_x"}
        given |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        script = f"import json, sys\nscores = json.load(sys.stdin)\n{block}"
        subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=given, input=json.dumps(METRICS), text=True, check=True
        )
        assert server.repos.keys() == {"me/camvid-duc", "me/another"} and server.private == ["me/camvid-duc"]
        assert "50.0" in server.repos["me/another"]["README.md"].decode()
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"model.safetensors", "model.json", "README.md"}
