"""Checkpoints on the Hugging Face Hub: model.safetensors, model.json and a card, and nothing else.

Names, revisions, tokens, the cache and offline mode are huggingface_hub's own. Training state, logs and the paths of
the machine that trained never leave it; what is downloaded is the two files of a checkpoint, none of which is executed.
"""

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ducseg.errors import explain
from ducseg.files import write_whole
from ducseg.models.segmenter import Segmenter
from ducseg.weights.checkpoint import checkpoint_folder, load_segmenter, read_model_json, save_segmenter

__all__ = ["download", "from_pretrained", "push_to_hub", "save_pretrained"]

_FILES = ("model.safetensors", "model.json")


def save_pretrained(
    segmenter: Segmenter,
    folder: Path | str,
    *,
    metrics: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    repo_id: str | None = None,
) -> None:
    """Write a checkpoint folder with a model card (README.md), ready to be pushed.

    Args:
        metrics: scores, as `ducseg eval --json` writes them; None: those of the checkpoint it was loaded from.
        extra: notes such as {"command": ...}; None: those of that checkpoint. Absolute paths in it are shortened.
        repo_id: the Hub id that the card's snippet loads.

    Raises:
        UserError: the folder exists already (nothing is overwritten), or the disk does not take it.
    """
    from ducseg.weights.model_card import model_card, without_private_paths

    folder = Path(folder)
    metrics = segmenter.record.get("metrics") if metrics is None else metrics
    extra = segmenter.record.get("extra") if extra is None else extra
    save_segmenter(folder, segmenter, metrics=metrics, extra=without_private_paths(extra or {}))
    write_whole(folder / "README.md", model_card(read_model_json(folder), repo_id).encode())


def from_pretrained(path_or_id: Path | str, *, revision: str | None = None, device: str = "cpu") -> Segmenter:
    """The segmenter of a checkpoint folder, a run folder or a Hub id, in evaluation mode.

    Args:
        revision: a branch, tag or commit of the Hub; None: main.

    Raises:
        UserError: nothing there, no checkpoint, a damaged one.
    """

    return load_segmenter(checkpoint_folder(path_or_id, revision=revision), device)


def push_to_hub(
    source: Segmenter | Path | str,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a segmenter, or the checkpoint in a folder, with its card; the repository is made if need be.

    Args:
        source: what to push; of a folder, its scores and command come along.
        repo_id: OWNER/NAME.
        private: of a new repository; None: the account's default.
        revision: branch; None: main.
        token: None: that of `huggingface-cli login` or HF_TOKEN.

    Returns:
        The address of the commit.

    Raises:
        UserError: no checkpoint, no such account or right, the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    segmenter = source if isinstance(source, Segmenter) else from_pretrained(source)
    with tempfile.TemporaryDirectory() as name, _explained(repo_id):
        folder = Path(name) / "checkpoint"
        save_pretrained(segmenter, folder, repo_id=repo_id)
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message or "Upload a ducseg checkpoint",
            allow_patterns=[*_FILES, "README.md"],
        )
    return str(commit.commit_url)


def download(repo_id: str, revision: str | None = None) -> Path:
    """The folder with the two files of a checkpoint on the Hub; from the cache where they are there and the Hub is not.

    Raises:
        UserError: no such repository or revision, no checkpoint in it, or the Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _explained(repo_id):
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(_FILES)))


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """What huggingface_hub raises, in one line with the way out."""
    from huggingface_hub import get_session
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # requests, httpx or a fork of it, by huggingface_hub's version: what cannot be reached raises that one's error
    http = importlib.import_module(type(get_session()).__module__.partition(".")[0])
    unreachable: type[Exception] = getattr(http, "HTTPError", OSError)
    try:
        yield
    except HFValidationError as error:
        raise explain(
            f"Hub id {repo_id}", found=str(error).splitlines()[0], needed="OWNER/NAME", fix="Correct it."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        kind = {RevisionNotFoundError: "no such revision", GatedRepoError: "no access granted yet"}
        raise explain(
            f"Hub id {repo_id}",
            found=kind.get(type(error), "no such repository, or a private one"),
            needed="a checkpoint on the Hub, and the right to read it",
            fix="Check the id; for private ones, log in (hf auth login) or set HF_TOKEN.",
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, unreachable, OSError) as error:
        raise explain(
            f"Hub id {repo_id}",
            found=f"no such folder here, and the Hub did not answer as it should ({type(error).__name__})",
            needed="a checkpoint folder, or a Hub that can be reached and accepts the token",
            fix="Check the path or id, the network, and for uploads the token (hf auth login).",
        ) from error
