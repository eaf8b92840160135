"""Checkpoints down from the Hugging Face Hub: model.safetensors and model.json, and what it raises in one line.

Names, revisions, tokens, the cache and offline mode are huggingface_hub's own. Nothing that is downloaded is executed,
and all of it is compared with the hash that the Hub gave with it.
"""

import hashlib
import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ducseg.errors import explain

__all__ = ["FILES", "checked", "download", "explained"]

FILES = ("model.safetensors", "model.json")


def download(repo_id: str, revision: str | None = None) -> Path:
    """The folder with the two files of a checkpoint on the Hub; from the cache where they are there and the Hub is not.

    Raises:
        UserError: no such repository or revision, no checkpoint in it, or the Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with explained(repo_id):
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES)))
    for name in FILES:
        if (folder / name).is_file():
            checked(folder / name)
    return folder


def checked(file: Path) -> Path:
    """A file of the cache, which keeps it under the hash that the Hub gave: SHA-256, or git's for small files.

    Raises:
        UserError: its content has another hash.
    """
    named = file.resolve().name
    if re.fullmatch("[0-9a-f]{64}", named):
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    elif re.fullmatch("[0-9a-f]{40}", named):
        data = file.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        return file  # a cache without links has no names of hashes
    if found != named:
        raise explain(
            f"downloaded {file}",
            found=f"hash {found[:12]}...",
            needed=f"{named[:12]}..., that of the Hub's file",
            fix=f"Delete {file.resolve()} and load it again.",
        )
    return file


@contextmanager
def explained(repo_id: str) -> Iterator[None]:
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
