"""What of a `model.json` may leave the machine: a list of fields, so that what nobody thought of stays.

Published are the network (architecture, preprocessing, classes), the versions, numbers of any score and setting, and of
the words: the fields of `_WORDS`, where they are one plain word. Every other word of a setting, such as a path, becomes
`...` in the command and is left out elsewhere.
"""

import re
import shlex
from typing import Any

__all__ = ["public"]

_WORDS = {
    "name", "dataset", "train_split", "val_split", "encoder", "head", "dilation", "stem", "stride_in", "weights_scope",
    "masks_as", "schedule", "ducseg", "torch", "python", "numpy", "commit",
}  # fmt: skip
"""Fields of a configuration, and versions, whose words are published."""

_COMMANDS = {"ducseg", "train", "import-weights", "tusimple", "onnx-zoo", "torchrun"}
_ONE_WORD = re.compile(r"[\w.+:-]{1,80}")
_WEIGHTS = re.compile(r"imagenet|timm:[\w.]+")  # a name, or else a path
_VALUE = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?|True|False|None", re.IGNORECASE)


def public(description: dict[str, Any]) -> dict[str, Any]:
    """The content of a `model.json` with what may be published, in its form; what is public already is unchanged."""
    extra = _dictionary(description.get("extra"))
    config = _settings(_dictionary(extra.get("config")))
    notes = {key: value for key, value in _settings(extra).items() if key not in ("config", "command")}
    if config:
        notes["config"] = config
    if isinstance(extra.get("command"), str):
        notes["command"] = _command(extra["command"], config.get("name"))
    names = {entry["name"] for entry in description["classes"]}
    return {
        **{key: description[key] for key in ("format", "architecture", "preprocessing", "classes")},
        "metrics": None if description.get("metrics") is None else _scores(description["metrics"], names),
        "versions": _settings(_dictionary(description.get("versions"))),
        "extra": notes,
    }


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _settings(section: dict[str, Any]) -> dict[str, Any]:
    """Numbers of any field, words of the listed ones."""
    found = {key: _setting(key, value) for key, value in section.items() if _ONE_WORD.fullmatch(str(key))}
    return {key: value for key, value in found.items() if value is not ... and value != {}}


def _setting(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return _settings(value)
    if isinstance(value, list | tuple):
        entries = [_setting(key, entry) for entry in value]
        return ... if any(entry is ... for entry in entries) else entries
    return value if isinstance(value, str) and _is_public(key, value) else ...


def _is_public(key: str, word: str) -> bool:
    if key == "weights":
        return _WEIGHTS.fullmatch(word) is not None
    return key in _WORDS and _ONE_WORD.fullmatch(word) is not None


def _scores(value: Any, names: set[str]) -> Any:
    """Numbers under any name that is a class's or one plain word, and names of classes."""
    if isinstance(value, dict):
        kept = {key: _scores(entry, names) for key, entry in value.items() if key in names or _ONE_WORD.fullmatch(key)}
        return {key: entry for key, entry in kept.items() if entry is not ...}
    if isinstance(value, list):
        return [entry for entry in (_scores(one, names) for one in value) if entry is not ...]
    return value if value is None or isinstance(value, bool | int | float) or value in names else ...


def _command(command: str, name: Any) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # no command line: an apostrophe in a sentence
        words = command.split()
    shown, option = [], ""
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            option = flag.rpartition(".")[2].removeprefix("--").replace("-", "_")
            shown.append(flag + equals + (_shown(option, value, name) if equals else ""))
        else:
            shown.append(_shown(option, word, name))
    return " ".join(shown)


def _shown(option: str, word: str, name: Any) -> str:
    if not option:
        return word if word in _COMMANDS or word == name else "..."
    return word if _VALUE.fullmatch(word) or _is_public(option, word) else "..."
