"""Find the checkpoint that a run folder of `ducseg train` stands for, also where its links did not survive."""

import json
from pathlib import Path

__all__ = ["find_checkpoint"]


def find_checkpoint(path: Path) -> Path | None:
    """The folder with `model.json` that `path` is or holds as `best` or `last`, None if there is none.

    `best` and `last` may be files that hold a path, where the file system has no links. A run that was copied without
    them is looked through: the newest of its `checkpoints/` names the best.
    """
    for candidate in (path, path / "best", path / "last"):
        if candidate.is_file():
            with candidate.open(encoding="utf-8", errors="replace") as file:
                candidate = candidate.parent / file.readline(1024).strip()
        if (candidate / "model.json").is_file():
            return candidate
    whole = sorted(file.parent for file in path.glob("checkpoints/step-*/model.json"))
    if not whole:
        return None
    try:
        evaluations = json.loads((whole[-1] / "model.json").read_text(encoding="utf-8"))["extra"]["evaluations"]
        best = path / "checkpoints" / f"step-{evaluations['best_step']:08d}"
    except (OSError, ValueError, KeyError, TypeError):  # none was scored
        return whole[-1]
    return best if best in whole else whole[-1]
