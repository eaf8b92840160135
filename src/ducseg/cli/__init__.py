"""The command line: one table finds a command's module, which has its options and its short body.

A command is a file here, named as the command (`crf-tune` is crf_tune.py, `data check` is data_check.py), with

    class Options    its options, a dataclass whose docstring is its help; several commands share those in options.py
    run(options)     does it, prints, returns the exit status
    parse(arguments) -> Options, only where the options depend on the arguments

and one line in `COMMANDS`. Nothing is imported before it is asked for, and what is heavy (torch) waits for `run`, so
help is instant.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import tyro

from ducseg.cli.options import folded, help_text, unknown
from ducseg.cores import available_cores
from ducseg.errors import UserError, behind, explain, said_as_lines
from ducseg.version import __version__

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "demo": "make street scenes, train bilinear, DUC and the pyramid on them, write a report (minutes on 2 cores)",
    "train": "train an experiment; every field of its configuration is an option",
    "experiments": "list the experiments: what each one trains, and the command",
    "eval": "score a checkpoint on its data set: per-class IoU, mean IoU, pixel accuracy",
    "report": "write one HTML page about a run, or several side by side",
    "predict": "predict pictures: label PNGs, colour maps, overlays with a legend; files for a benchmark's server",
    "serve": "a page to use a network in a browser, and POST /predict for programs",
    "export": "write a network as one ONNX file, checked against it; also in int8",
    "ablate": "run the rows of a table of the paper, or of a question of ours, beside the paper's numbers",
    "bench": "time networks: latency, memory, arithmetic, by backend, size and stage",
    "crf": "refine saved probabilities with the dense CRF",
    "crf-tune": "find the dense CRF's settings by grid search on a validation split",
    "score cityscapes": "class and category IoU and iIoU, as cityscapesScripts",
    "score kitti-road": "MaxF, AP, precision and recall in the bird's-eye view or in perspective",
    "score voc2012": "mean IoU over the 21 classes",
    "score folder": "masks of one's own against masks: mean and per-class IoU, pixel accuracy",
    "data check": "look at every file of a data set once and say all that is wrong",
    "data synth": "write procedural scenes in a data set's own layout",
    "data patches": "cut the paper's overlapping patches to disk once",
    "data sbd": "add SBD's masks and the augmented lists to VOC2012",
    "data coco-masks": "write masks of VOC's classes from COCO's instances",
    "data convert": "annotations of COCO, LabelMe, CVAT, YOLO, Label Studio, QGIS, or many masks a picture, to masks",
    "hdc": "check dilation rates for gridding: equation 2, exact coverage, receptive field",
    "figure architecture": "Figure 1: a network, drawn from what it is built of",
    "figure gridding": "Figure 2: from which places each block of a network on can learn",
    "figure panels": "Figures 3 and 4: pictures, truth, and what networks make of them",
    "figure patches": "Figure 5: patches in which networks differ most",
    "figure road": "Figure 6: frames with the road in red",
    "figure crf": "Figure 7: before and after the dense CRF",
    "gridding": "does a trained network leave a lattice in its scores? coverage, effective field, a score by period",
    "import-weights": "turn released weights into a checkpoint",
    "version": "the version, and the torch, devices and extras that are found",
    "completion": "a script for bash or zsh that completes commands and options",
}
"""Name -> what it does, in one line."""

_GROUPS = {
    "score": "score a folder of predictions: a benchmark's official scores, or those of one's own masks",
    "figure": "draw the paper's figures from networks and pictures of one's own: PDF, SVG, PNG",
    "data": "check, make, cut and convert data sets",
}


_FEW_CORES = 8
"""Up to so many: seen on two; what waking the threads of many costs was not measured."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 done with findings, 2 bad input, 75 interrupted and saved."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _tell_libraries()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a class name that the console's encoding lacks is shown as it can be
            stream.reconfigure(errors="backslashreplace")
    try:
        with _interrupts_kept(), _warnings_as_lines():
            status = _dispatch(given)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # nothing more goes there, not even at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail("standard output: found a closed pipe; needed one that reads to the end. The command stopped.")
    except OSError as error:
        where = f"{error.filename}" if error.filename is not None else "the system"
        reason = error.strerror or str(error) or type(error).__name__
        needed = "a file or folder that can be read or written, on a disk with room"
        return _fail(str(explain(where, found=reason, needed=needed, fix="Check the path given and who may use it.")))
    except Exception as error:
        if any(isinstance(one, KeyboardInterrupt) for one in behind(error)):
            return _stop()
        if isinstance(error, RuntimeError) and "determine home directory" in str(error):  # pathlib's
            needed, fix = "the home of somebody on this machine", "Write ./~ for a name that begins so."
            return _fail(str(explain("a path with ~", found="nobody's", needed=needed, fix=fix)))
        from ducseg.devices import ran_out_of_memory

        if not ran_out_of_memory(error):
            raise
        return _fail(str(explain("memory", found="too little", needed="more", fix="Use smaller pictures or batches.")))
    except KeyboardInterrupt:
        return _stop()
    return status


def _fail(message: str) -> int:
    _say(f"error: {' '.join(message.split())}")
    return 2


def _say(line: str) -> None:
    """One line, which a terminal shows folded at words; names of files cannot move its cursor or change its title."""
    line = "".join(letter if letter == "\n" or unicodedata.category(letter) != "Cc" else "?" for letter in line)
    print(folded(line) if sys.stderr.isatty() else line, file=sys.stderr)


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[None]:
    """A Ctrl-C that falls into a callback (a weak reference's, `__del__`), where Python prints it and goes on, comes
    again after it."""

    def interrupt() -> None:
        if hasattr(signal, "pthread_kill"):  # a signal ends what waits, too
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def again(caught: Any) -> None:
        if issubclass(caught.exc_type, KeyboardInterrupt):  # at once it would fall into this callback
            later = threading.Timer(0.01, interrupt)
            later.daemon = True
            later.start()
        else:
            shown(caught)

    shown, sys.unraisablehook = sys.unraisablehook, again
    try:
        yield
    finally:
        sys.unraisablehook = shown


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    with warnings.catch_warnings():
        said_as_lines(_say)
        yield


def _stop() -> int:
    print("stopped", file=sys.stderr)
    return 130


def _tell_libraries() -> None:
    """What torch and its OpenMP read from the environment as they load; what is set there already stays (LOG.md)."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch asks Linux for pages of 2 MB: fewer faults
    if "OMP_WAIT_POLICY" not in os.environ and available_cores() <= _FEW_CORES:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # threads that wait for each other soon leave their processor


def _dispatch(given: list[str]) -> int:
    if given[:1] == ["--version"]:
        print(f"ducseg {__version__}")
        return 0
    top = {name.partition(" ")[0]: _GROUPS.get(name.partition(" ")[0], line) for name, line in COMMANDS.items()}
    if not given or given[0] in ("-h", "--help"):
        print(_usage("ducseg COMMAND ...", "Pixel-accurate semantic segmentation with DUC and HDC.", top))
        return 0 if given else 2
    name, *rest = given
    if name not in top:
        raise unknown("command", name, top)
    return _below(name, rest) if name in _GROUPS else _run(name, rest)


def _below(group: str, given: list[str]) -> int:
    """Run one of the commands below a name, or list them."""
    inside = {name.partition(" ")[2]: line for name, line in COMMANDS.items() if name.partition(" ")[0] == group}
    if not given or given[0] in ("-h", "--help"):
        print(_usage(f"ducseg {group} NAME ...", f"{_GROUPS[group].capitalize()}.", inside))
        return 0 if given else 2
    if given[0] not in inside:
        raise unknown(f"ducseg {group}", given[0], inside)
    return _run(f"{group} {given[0]}", given[1:])


def _run(name: str, arguments: list[str]) -> int:
    command = import_module(f"ducseg.cli.{name.replace(' ', '_').replace('-', '_')}")
    with _colourless_if_asked():
        if hasattr(command, "parse"):
            options = command.parse(arguments)
        else:
            text = help_text(command.Options)
            options = tyro.cli(command.Options, prog=f"ducseg {name}", description=text, args=arguments)
    status: int = command.run(options)
    return status


@contextlib.contextmanager
def _colourless_if_asked() -> Iterator[None]:
    """NO_COLOR for tyro, which looks at TERM alone."""
    terminal = os.environ.get("TERM")
    if not os.environ.get("NO_COLOR") or terminal is None:
        yield
        return
    os.environ["TERM"] = "dumb"
    try:
        yield
    finally:
        os.environ["TERM"] = terminal


def _usage(usage: str, description: str, commands: Mapping[str, str]) -> str:
    width = max(map(len, commands))
    rows = [folded(line, first=f"  {name:<{width}}  ") for name, line in commands.items()]
    foot = "Every command has --help. Exit status: 0 done, 1 done with findings, 2 bad input, 75 saved on SIGTERM."
    return "\n".join([f"usage: {usage}", "", folded(description), "", *rows, "", folded(foot)])
