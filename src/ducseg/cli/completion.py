"""`ducseg completion`: a script for bash or zsh that knows every command and option."""

import contextlib
import io
import os
import re
from dataclasses import dataclass
from typing import Literal

import tyro

__all__ = ["Options", "run"]

_SCRIPT = """\
# ducseg's commands and options for {shell}; made by: ducseg completion {shell}
{head}_ducseg() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]-}} words=""
    case $command in
        {groups}) (( COMP_CWORD > 1 )) && command="$command ${{COMP_WORDS[2]-}}" ;;
    esac
    if (( COMP_CWORD == 1 )); then words="{top}"
    else
        case $command in
{cases}
        esac
        case "$COMP_CWORD:$command" in
{below}
        esac
    fi
    COMPREPLY=()
    local word
    for word in $(echo "$words"); do [[ $word == "$current"* ]] && COMPREPLY+=("$word"); done
    return 0
}}
complete -o default -F _ducseg ducseg
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Print a script that completes commands and options: source it in .bashrc or .zshrc."""

    shell: tyro.conf.Positional[Literal["bash", "zsh"]]
    """bash: source <(ducseg completion bash). zsh the same, after compinit."""


def run(options: Options) -> int:
    """Print it; names of files stay the shell's own."""
    from ducseg.cli import COMMANDS

    groups = sorted({name.partition(" ")[0] for name in COMMANDS if " " in name})
    top = [*dict.fromkeys(name.partition(" ")[0] for name in COMMANDS), "--help", "--version"]
    cases = {name: _options(name) for name in COMMANDS}
    below = {f"2:{group}*": [n.split()[1] for n in COMMANDS if n.startswith(f"{group} ")] for group in groups}
    below["2:train"] = [*_experiments(), *cases["train"]]
    head = "autoload -U +X bashcompinit && bashcompinit\n" if options.shell == "zsh" else ""
    print(
        _SCRIPT.format(
            shell=options.shell,
            head=head,
            groups="|".join(groups),
            top=" ".join(top),
            cases=_cases({f'"{name}"': words for name, words in cases.items()}),
            below=_cases(below),
        ),
        end="",
    )
    return 0


def _cases(words: dict[str, list[str]]) -> str:
    return "\n".join(f'            {pattern}) words="{" ".join(found)}" ;;' for pattern, found in words.items())


def _experiments() -> list[str]:
    from ducseg.experiments import EXPERIMENTS

    return list(EXPERIMENTS)


def _options(name: str) -> list[str]:
    """What the help of a command lists; of `train`, an experiment's."""
    from ducseg.cli import main

    arguments = ["train", _experiments()[0]] if name == "train" else name.split()
    given = {"COLUMNS": "80", "NO_COLOR": "1"}
    before = {variable: os.environ.get(variable) for variable in given}
    os.environ.update(given)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
            main([*arguments, "--help"])
    finally:
        for variable, value in before.items():
            os.environ.pop(variable) if value is None else os.environ.update({variable: value})
    listed = re.findall(r"^\W? ?(-[^\n]*?)(?:  |$)", text.getvalue(), re.MULTILINE)
    return sorted({option for line in listed for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*", line)})
