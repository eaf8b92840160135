"""The one rule by which masks of anyone's own are read: docs/data.md, "What masks may hold".

`find_rule` looks at what occurs in the masks, tries each reading that could be meant (`mask_readings`), and takes the
one that gives every value a class and leaves no class without a pixel. Where two such readings differ, the rule carries
the problem, with both readings and the option that decides.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ducseg.classes import IGNORE, VOC_PALETTE, ClassSet, Colour
from ducseg.data.layouts.blends import are_blended
from ducseg.data.layouts.mask_files import BEYOND, MaskLook, code_of
from ducseg.data.layouts.mask_reader import MaskRule, line_of, most_often, shown
from ducseg.data.layouts.mask_readings import (
    Asked,
    Reading,
    as_said,
    colour_readings,
    counts_of,
    value_readings,
    with_background,
)
from ducseg.errors import explain

__all__ = ["find_rule"]

_MOST_SMOOTHED = 0.2
"""Share of pixels that may be ignored for lying in smoothed edges."""


def find_rule(
    looks: Sequence[MaskLook],
    classes: ClassSet | None,
    *,
    masks_as: Literal["index", "colour"] | None = None,
    values: tuple[str, ...] = (),
    ignore_value: int | None = None,
    ignore_colours: tuple[Colour, ...] = (),
    smoothed: bool = False,
) -> MaskRule:
    """The rule of masks in which this occurs.

    Args:
        classes: the user's class list; None: made from what is found.
        masks_as, values, ignore_value, ignore_colours, smoothed: as the fields of `DataConfig`.

    Raises:
        UserError: `values` that do not read or name no class, two classes of one colour where masks hold colours.
    """
    if masks_as is None and (ignore_colours or ignore_value is not None):
        masks_as = "colour" if ignore_colours else "index"
    asked = Asked(
        masks_as=masks_as, values=values, ignore_value=ignore_value, ignore_colours=ignore_colours, smoothed=smoothed
    )
    if values:
        said = as_said(looks, classes, asked)
        return _described(_without_stray(looks, said) if smoothed else _unblended(looks, said) or said, looks)
    if classes is not None and len(classes) == 1:
        classes = with_background(looks, classes, asked)
    if not looks:
        return _unseen(classes)
    kinds = {look.kind for look in looks}
    readings = []
    if masks_as != "colour":
        readings += value_readings(looks, classes, asked)
    if masks_as != "index":
        surely = masks_as == "colour" or "colours" in kinds or (classes is None and _palettes_differ(looks))
        readings += colour_readings(looks, classes, asked, surely=surely)
    rule = _chosen(readings, looks, asked) if readings else _nothing_meant(looks, asked)
    return _described(rule if smoothed else _uncompressed(looks, rule), looks)


def _chosen(readings: list[Reading], looks: Sequence[MaskLook], asked: Asked) -> MaskRule:
    whole = [one for one in readings if not one.stray]
    if not whole:
        as_they_are = any(look.kind == "colours" for look in looks)
        nearest = min(readings, key=lambda one: (one.stray, one.absent, one.rule.as_colours != as_they_are))
        rule = _both_kinds(looks, nearest.rule)
        return _without_stray(looks, rule) if asked.smoothed else _unblended(looks, rule) or _smoothed(looks, rule)
    least = min(one.absent for one in whole)
    best = [one for one in whole if one.absent == least]
    chosen = best[0]
    others = [one for one in best[1:] if not _agree(chosen, one, looks)]
    if not others and _contradicted(chosen.rule, looks):
        others = [one for one in readings if one.rule.as_colours]
    if not others:
        return chosen.rule if asked.ignore_value == IGNORE else _mixed(looks, chosen.rule)
    meant = next((one.rule for one in others if one.rule.as_colours), None)
    if meant and _palettes_differ(looks) and len(meant.classes) <= len(chosen.rule.classes):
        return meant
    both = "; or ".join(one.words() for one in (chosen, others[0]))
    decide = "--data.masks-as index or colour" if others[0].rule.as_colours else "--data.values or --data.ignore-value"
    example = " ".join(
        f"{shown(value, False)}={others[0].rule.classes.names[train_id]}"
        for value, train_id in sorted(others[0].rule.meaning.items())
        if train_id != IGNORE
    )
    said = f" (such as --data.values {example})" if not others[0].rule.as_colours else ""
    return _refused(
        chosen.rule, "masks", found=f"two readings: {both}", needed="one", fix=f"Decide with {decide}{said}."
    )


def _refused(rule: MaskRule, what: str, *, found: object, needed: object, fix: str) -> MaskRule:
    """The rule with why nothing can be trained by it, unless it has a reason already."""
    return replace(rule, problem=rule.problem or str(explain(what, found=found, needed=needed, fix=fix)))


def _mixed(looks: Sequence[MaskLook], rule: MaskRule) -> MaskRule:
    """A problem where some masks hold 0 and 1, others 0 and 255: two ways to say the same, or 255 is ignored."""
    both = [{1, IGNORE} & look.counts.keys() for look in looks if 0 in look.counts and look.kind != "colours"]
    of_two = len(rule.classes) == 2 and rule.meaning.get(1) == 1 and rule.meaning.get(IGNORE) == IGNORE
    if not of_two or {1, IGNORE} in both or {1} not in both or {IGNORE} not in both:
        return rule
    first, second = rule.classes.names
    one, other = (next(look.path.name for look in looks if {0, value} <= look.counts.keys()) for value in (1, IGNORE))
    return _refused(
        rule,
        "masks",
        found=f"1 in some ({one}) and 255 in others ({other}), never both: {second} twice, or 255 is ignored",
        needed="one reading",
        fix=f"Decide with --data.values 0={first} 1={second} 255={second}, or --data.ignore-value 255.",
    )


def _nothing_meant(looks: Sequence[MaskLook], asked: Asked) -> MaskRule:
    """The rule where there is nothing to make classes of; a problem where masks are of another kind than was said."""
    ignored = set() if asked.ignore_value is None else {asked.ignore_value}
    if as_colours := asked.masks_as == "colour":
        ignored = set(map(code_of, asked.ignore_colours))
        other, unlike = "grey of 16 bits", [look for look in looks if BEYOND in look.codes(True)]
        fix = "Leave out --data.masks-as colour and --data.ignore-colours; --data.ignore-value ignores a value."
    else:
        other, unlike = "colours", [look for look in looks if look.kind == "colours"]
        fix = "Leave out --data.masks-as index and --data.ignore-value; --data.ignore-colours R G B ignores a colour."
    known = ClassSet(("background", "foreground"), VOC_PALETTE[:2])
    rule = MaskRule(classes=known, meaning=dict.fromkeys(ignored, IGNORE), as_colours=as_colours)
    if not unlike:
        return rule
    needed = "colours" if as_colours else "one value a pixel"
    return _refused(rule, "masks", found=f"{other} ({unlike[0].path.name})", needed=needed, fix=fix)


def _unseen(classes: ClassSet | None) -> MaskRule:
    """Indices, where there is no mask that reads."""
    known = classes or ClassSet(("background", "foreground"), VOC_PALETTE[:2])
    problem = explain("masks", found="none that reads", needed="some", fix="ducseg data check names what is wrong.")
    return MaskRule(
        classes=known,
        meaning={value: value for value in (*range(len(known)), IGNORE)},
        line="masks: none that reads",
        problem=str(problem),
    )


def _both_kinds(looks: Sequence[MaskLook], rule: MaskRule) -> MaskRule:
    """The rule that leaves least over; a problem where some masks hold values and others colours."""
    example = {look.kind == "colours": look.path.name for look in reversed(looks) if look.was != "RGB"}
    if len(example) < 2:
        return rule
    return _refused(
        rule,
        f"masks in {looks[0].path.parent}",
        found=f"indices ({example[False]}) and colours ({example[True]})",
        needed="one kind in all files",
        fix="Convert one kind.",
    )


def _without_stray(looks: Sequence[MaskLook], rule: MaskRule) -> MaskRule:
    """What has no meaning is ignored; a problem where that is no edge but a fifth of the pixels."""
    counts = counts_of(looks, rule.as_colours)
    stray = _stray_share(counts, rule)
    kind = "colours" if rule.as_colours else "values"
    line = f"{rule.line or line_of(rule, counts)}; other {kind} ({100 * stray:.1f} % of the pixels) ignored"
    rule = replace(rule, others="ignored", line=line)
    if stray <= _MOST_SMOOTHED:
        return rule
    often = ", ".join(shown(value, rule.as_colours) for value, _ in counts.most_common(3))
    return _refused(
        rule,
        "--data.smoothed",
        found=f"{100 * stray:.0f} % of the pixels in none of {len(rule.classes)} classes' {kind} (there are {often})",
        needed=f"at most {100 * _MOST_SMOOTHED:.0f} %, as edges have",
        fix="Correct the class list, or look at the masks.",
    )


def _stray_share(counts: Counter[int], rule: MaskRule) -> float:
    return sum(pixels for value, pixels in counts.items() if value not in rule.meaning) / max(1, counts.total())


def _unblended(looks: Sequence[MaskLook], rule: MaskRule) -> MaskRule | None:
    """By which smoothed edges between colours are the nearer one's; None: there are none, or they are no such edges."""
    counts = counts_of(looks, rule.as_colours)
    if not rule.as_colours or rule.problem or not are_blended(looks, counts, rule.meaning.keys()):
        return None
    others, share = len(counts.keys() - rule.meaning.keys()), 100 * _stray_share(counts, rule)
    blends = f"{others} other colours ({share:.1f} % of the pixels), blends at smoothed edges"
    line = f"{rule.line or line_of(rule, counts)}; {blends}, are the nearer one's"
    return replace(rule, others="nearest", line=line)


def _smoothed(looks: Sequence[MaskLook], rule: MaskRule) -> MaskRule:
    """A problem where far more occurs than there are classes, as between classes that were drawn smoothly."""
    counts = counts_of(looks, rule.as_colours)
    stray = {value: pixels for value, pixels in counts.items() if value not in rule.meaning}
    if len(stray) <= 3 * len(rule.classes) + 8:
        return rule
    kind = "colours" if rule.as_colours else "values"
    fix = "Export the masks without smoothing, or ignore such pixels: --data.smoothed"
    if not rule.as_colours:
        first, last = rule.classes.names[0], rule.classes.names[-1]
        fix += f", or part the values: --data.values '0-127={first}' '128-255={last}'"
    return _refused(
        rule,
        "masks",
        found=f"{len(counts)} {kind} ({most_often(counts, rule.as_colours, 3)}), as smoothed edges give",
        needed=f"those of the {len(rule.classes)} classes alone",
        fix=f"{fix}.",
    )


def _uncompressed(looks: Sequence[MaskLook], rule: MaskRule) -> MaskRule:
    """A problem of JPEGs, whatever else is wrong with them: of more than two values none is sure."""
    lossy = next((look.path.name for look in looks if look.was == "JPEG"), None)
    if lossy is None or (len(rule.classes) <= 2 and rule.problem is None):
        return rule
    problem = explain(
        "masks",
        found=f"JPEG ({lossy}), whose compression has changed the values at every border",
        needed="PNG or TIFF for more than two values",
        fix="Export the masks anew (converting these brings nothing back), ignore what no class has (--data.smoothed), "
        "or say what each range means: --data.values '0-63=background' '64-191=first' '192-255=second'.",
    )
    return replace(rule, problem=str(problem))


def _contradicted(rule: MaskRule, looks: Sequence[MaskLook]) -> bool:
    """Whether a palette shows an index in the colour of another class than the one it is read as."""
    if rule.as_colours:
        return False
    of_colour = {code_of(colour): train_id for train_id, colour in enumerate(rule.classes.palette)}
    pairs = {pair for look in looks for pair in look.shown.items()}
    return any(of_colour.get(code, rule.meaning.get(index)) != rule.meaning.get(index) for index, code in pairs)


def _agree(first: Reading, second: Reading, looks: Sequence[MaskLook]) -> bool:
    """Whether two readings give every pixel the same class."""
    for look in looks:
        for value in look.counts:
            meant = [
                one.rule.meaning.get(look.code(value) if one.rule.as_colours else value) for one in (first, second)
            ]
            if meant[0] != meant[1]:
                return False
    return True


def _palettes_differ(looks: Sequence[MaskLook]) -> bool:
    """Whether an index shows one colour in one mask and another in another: then the colours were meant."""
    seen: dict[int, int] = {}
    return any(seen.setdefault(index, code) != code for look in looks for index, code in look.shown.items())


def _described(rule: MaskRule, looks: Sequence[MaskLook]) -> MaskRule:
    """With the line, and the problem of masks that hold nothing but ignored pixels."""
    was = {look.was for look in looks if look.was}
    notes = {
        "RGB": "three equal channels",
        "JPEG": "JPEG, which changes values: export PNG",
        "alpha": "the alpha channel",
    }
    said = "".join(f" ({notes[one]})" for one in sorted(was))
    counts = counts_of(looks, rule.as_colours)
    rule = replace(rule, line=f"masks: {rule.line or line_of(rule, counts)}{said}")
    if counts and all(rule.meaning.get(value) == IGNORE for value in counts):
        alone = ", ".join(shown(value, rule.as_colours) for value in sorted(counts))
        return _refused(
            rule,
            "masks",
            found=f"{alone} alone, which is ignored, in all {len(looks)}",
            needed="pixels of classes",
            fix="Say what the values mean: --data.values 0=background 255=foreground.",
        )
    if len(rule.classes) < 2:
        return _refused(
            rule,
            "masks",
            found=f"{rule.line.removeprefix('masks: ')}: one class",
            needed="at least two, such as background and foreground",
            fix="Add the masks that show the other, or say what the values mean with --data.values.",
        )
    return rule
