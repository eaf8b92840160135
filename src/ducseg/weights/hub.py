"""Checkpoints up to the Hugging Face Hub: model.safetensors, model.json and a card, and nothing else.

Training state, logs and the paths of the machine that trained never leave it (`ducseg.weights.published` lists what
does). Down again: `ducseg.load` and `ducseg.weights.load_segmenter` take the Hub's ids.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

from ducseg.models.segmenter import Segmenter
from ducseg.weights.checkpoint import (
    checkpoint_folder,
    describe,
    load_segmenter,
    read_model_json,
    save_description,
    stored_in_half,
)
from ducseg.weights.download import FILES, explained
from ducseg.weights.model_card import model_card
from ducseg.weights.published import public

__all__ = ["push_to_hub", "save_pretrained"]


def save_pretrained(
    segmenter: Segmenter,
    folder: Path | str,
    *,
    metrics: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    repo_id: str | None = None,
    about: str | None = None,
    license_name: str | None = None,
    half: bool = False,
) -> None:
    """Write a checkpoint folder with a model card (README.md), ready to be pushed.

    Args:
        metrics: scores of these weights, as `ducseg eval --json` writes them; none are taken from an earlier
            checkpoint, which the weights may have left.
        extra: notes such as {"command": ...}; what `ducseg.weights.published` does not list is left out.
        repo_id: the Hub id, or the folder, that the card's snippet loads.
        about: Markdown that the card holds as it is: what it was trained on, on which terms, what it scores.
        license_name: of the terms that its data put on it, such as "non-commercial-research", for the card's head.
        half: store kernels in float16, half as large; loaded, they are float32 again.

    Raises:
        UserError: the folder exists already (nothing is overwritten), or the disk does not take it.
    """
    description = public(describe(segmenter, metrics=metrics, extra=extra))
    card = model_card(description, repo_id, about=about, license_name=license_name)  # before anything is written
    save_description(Path(folder), segmenter, description, {"README.md": card.encode()}, half=half)


def push_to_hub(
    source: Segmenter | Path | str,
    repo_id: str,
    *,
    metrics: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a segmenter, or the checkpoint in a folder, with its card; the repository is made if need be.

    Args:
        source: what to push; of a folder, its scores and command come along, a card that `save_pretrained` wrote
            (with what was added to it by hand), and kernels in float16 stay so.
        repo_id: OWNER/NAME.
        metrics, extra: as in `save_pretrained`; of a folder: in place of its own, on a new card.
        private: of a new repository; None: the account's default.
        revision: branch; None: main.
        token: None: that of `huggingface-cli login` or HF_TOKEN.

    Returns:
        The address of the commit.

    Raises:
        UserError: no checkpoint, no such account or right, the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    card, half = None, False
    if not isinstance(source, Segmenter):
        folder = checkpoint_folder(source)
        if metrics is None and extra is None:
            card = _own_card(folder, repo_id)
        source, recorded, half = load_segmenter(folder), read_model_json(folder), stored_in_half(folder)
        metrics = recorded.get("metrics") if metrics is None else metrics
        extra = recorded.get("extra") if extra is None else extra
    description = public(describe(source, metrics=metrics, extra=extra))
    card = card or model_card(description, repo_id)
    with tempfile.TemporaryDirectory() as name, explained(repo_id):
        folder = Path(name) / "checkpoint"
        save_description(folder, source, description, {"README.md": card.encode()}, half=half)
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message or "Upload a ducseg checkpoint",
            allow_patterns=[*FILES, "README.md"],
        )
    return str(commit.commit_url)


def _own_card(folder: Path, repo_id: str) -> str | None:
    """The card that lies in a folder, if it is one of ours, with the id that its snippet loads; else None."""
    file = folder / "README.md"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if not re.match(r"---\nlibrary_name: ducseg\n", text):
        return None
    return re.sub(r'ducseg\.load\("[^"]*"\)', f'ducseg.load("{repo_id}")', text)
