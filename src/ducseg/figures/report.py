"""The HTML report of one or several runs: `ducseg report`, and the end of `ducseg train DIR`."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ducseg.errors import explain, taken_apart, typed
from ducseg.figures.curves import curve_pictures
from ducseg.figures.page import Section, cards, commands, details, gallery, paragraph, picture, table, write_page
from ducseg.figures.report_pictures import pictures_section, samples_section
from ducseg.figures.report_scores import class_section, confusion_section, width_section
from ducseg.figures.run_results import RunResults, as_percent, distinct_names
from ducseg.metrics.thin import mean_of_objects

__all__ = ["write_report"]


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write one self-contained page about runs and return its path.

    What the run folders hold is shown: plan and settings, curves, scores, and where `ducseg eval --store` or training
    left an evaluation, the confusion matrix, recall by width, and the worst and the median pictures. Of several runs
    it shows what differs, side by side; the first is what the others are compared with.

    Args:
        runs: run folders of `ducseg train`, finished or not.
        out: the page; replaced.

    Raises:
        UserError: no run, a folder that is no run, a run named twice, an output that cannot be written.
    """
    folders = [Path(run) for run in runs]
    if not folders or len({folder.resolve() for folder in folders}) < len(folders):
        raise explain(
            "runs of the report",
            found="none" if not folders else "one of them twice",
            needed="one run folder or several",
            fix="Name each once.",
        )
    named = dict(zip(distinct_names(folders), map(RunResults.read, folders)))
    first = next(iter(named.values()))
    title = next(iter(named)) if len(named) == 1 else " · ".join(named)
    needed = "what `ducseg train` and `ducseg eval --store` wrote"
    fix = "Evaluate it again: ducseg eval RUN --store."
    with taken_apart(f"run {title}", found="records that cannot be shown", needed=needed, fix=fix):
        sections = [
            _plan(first) if len(named) == 1 else _differences(named),
            class_section(named),
            width_section(named),
            *(pictures_section(named)),
            samples_section(named),
            *(confusion_section(name, run) for name, run in named.items()),
            _curves(named),
            _settings(named),
            _next_steps(named),
        ]
        head = Section("At a glance", (_glance(named),))
        return write_page(out, title, _lead(named), [head, *(section for section in sections if section.parts)])


def _lead(named: dict[str, RunResults]) -> str:
    if len(named) > 1:
        return f"{len(named)} runs side by side; differences are to {next(iter(named))}."
    run = next(iter(named.values()))
    if not run.scores:
        return "Nothing is scored yet."
    classes = run.scores.get("classes", {})
    lost = [name for name, score in classes.items() if score["pixels"] and not score["iou"]]
    sentence = f"Mean IoU {as_percent(run.scores['mean_iou'])} % over {len(classes)} classes"
    sentence += f", {run.how_scored}" if run.how_scored else ""
    return sentence + (f"; nothing was found of {', '.join(lost)}." if lost else ".")


def _glance(named: dict[str, RunResults]) -> str:
    rows = {name: _numbers(run) for name, run in named.items()}
    if len(rows) == 1:
        return cards(list(next(iter(rows.values())).items()))
    for name, run in named.items():
        rows[name] |= {"scored": run.how_scored} if run.how_scored else {}
    keys = list(dict.fromkeys(key for numbers in rows.values() for key in numbers))
    return table(("", *rows), [(key, *(numbers.get(key, "-") for numbers in rows.values())) for key in keys])


def _numbers(run: RunResults) -> dict[str, str]:
    found, scores = dict[str, str](), run.scores
    if scores:
        found["mean IoU, %"] = as_percent(scores["mean_iou"])
        thin = scores.get("thin")
        objects = _objects(run)
        if objects is not None:
            found[f"IoU of {objects}, %"] = as_percent(scores["classes"][objects]["iou"])
        if thin is not None and objects is not None:
            of_objects = thin["classes"][objects]
            found[f"clDice of {objects}, %"] = as_percent(of_objects["cldice"])
            if "2" in of_objects["within"]:
                found[f"F1 within 2 px of {objects}, %"] = as_percent(of_objects["within"]["2"]["f1"])
        elif thin is not None and run.classes is not None:
            over = "" if run.classes.background is None else " without background"
            found[f"mean clDice{over}, %"] = as_percent(mean_of_objects(thin["classes"], "cldice", run.classes))
        found["pixel accuracy, %"] = as_percent(scores["pixel_accuracy"])
    if run.extra:
        found["best after step"] = str(run.extra.get("step", "-"))
    if run.curves is not None:
        found["steps trained"] = f"{int(run.curves.step[-1])}"
    return found


def _objects(run: RunResults) -> str | None:
    """The rarer of two classes: what a picture of cracks is about."""
    classes = run.scores.get("classes", {})
    return min(classes, key=lambda name: int(classes[name]["pixels"])) if len(classes) == 2 else None


def _plan(run: RunResults) -> Section:
    rows = [line.partition(": ")[::2] for line in run.plan if line.strip()]
    return Section("Plan", (table(("", ""), rows, is_text=True),) if rows else ())


def _differences(named: dict[str, RunResults]) -> Section:
    settings = [run.settings for run in named.values()]
    keys = dict.fromkeys(key for one in settings for key in one)
    differing = [key for key in keys if len({one.get(key) for one in settings}) > 1 and key != "name"]
    rows = [(key, *(one.get(key, "-") for one in settings)) for key in differing]
    same = paragraph("Every setting is the same.")
    return Section("What differs", (table(("setting", *named), rows, is_text=True) if rows else same,))


def _curves(named: dict[str, RunResults]) -> Section:
    curves = {name: run.curves for name, run in named.items() if run.curves is not None}
    if not curves:
        return Section("Curves", ())
    titles = ("Training loss, smoothed over 2 % of the steps.", "Validation mean IoU.", "Learning rate.")
    return Section("Curves", (gallery([picture(*pair) for pair in zip(curve_pictures(curves), titles)], least=300),))


def _settings(named: dict[str, RunResults]) -> Section:
    parts = []
    for name, run in named.items():
        rows = list(run.settings.items())
        about = [(key, str(run.extra[key])) for key in _MACHINE if key in run.extra]
        title = "Every setting" if len(named) == 1 else f"Every setting of {name}"
        parts.append(details(title, table(("setting", "value"), rows + about, is_text=True)))
    return Section("Settings", tuple(parts))


_MACHINE = ("ducseg", "commit", "python", "torch", "numpy", "machine", "gpu")


def _next_steps(named: dict[str, RunResults]) -> Section:
    parts = []
    for name, run in named.items():
        folder, lines = typed(run.folder), []
        if run.extra.get("command"):
            lines += ["# train it again", f"{run.extra['command']}"]
        lines += ["# predict pictures of your own", f"ducseg predict {folder} PICTURES... --out predictions"]
        lines += ["# score it, with the pictures of this page", f"ducseg eval {folder} --store"]
        if len(named) > 1:
            parts.append(f"<h3>{escape(name)}</h3>")
        parts.append(commands(lines))
    return Section("Next", tuple(parts))
