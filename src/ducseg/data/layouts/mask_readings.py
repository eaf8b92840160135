"""The ways in which masks could be meant, each tried on what occurs in them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ducseg.classes import IGNORE, VOC_PALETTE, ClassSet, Colour
from ducseg.data.layouts.blends import FEWEST_SHADES, MOST_ALONE, MOST_SHADES, are_blended
from ducseg.data.layouts.mask_files import BEYOND, MaskLook, code_of, colour_of
from ducseg.data.layouts.mask_reader import MaskRule, Meaning, line_of, most_often
from ducseg.data.layouts.mask_shapes import are_edges, are_lines, are_regions
from ducseg.errors import UserError, explain

__all__ = ["Asked", "Reading", "as_said", "colour_readings", "counts_of", "value_readings", "with_background"]

_NEAR = 32  # how far noise may lie from 0 and 255
_MOST_MADE = 64  # classes made without a list: more are smoothed edges
_FEWEST_ENDS, _FEWEST_OBJECTS = 3, 8  # how far numbers of objects go, in how many ways
_ONE_CLASS = "--data.values 0=background 1-65535=object"
_OFTEN = 0.01  # share of the pixels that a colour has which others are blends of
_MOST_LINES = 0.4  # share of the lower value that is lines


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the configuration says about masks."""

    masks_as: Literal["index", "colour"] | None
    values: tuple[str, ...]
    ignore_value: int | None
    ignore_colours: tuple[Colour, ...]
    smoothed: bool


@dataclass(frozen=True)
class Reading:
    """One way to read the masks; `absent`: classes of which it finds no pixel; `stray`: pixels without a meaning."""

    name: str
    rule: MaskRule
    absent: int
    stray: int

    def words(self) -> str:
        return f"{self.name} ({self.rule.line})"


def counts_of(looks: Sequence[MaskLook], as_colours: bool) -> Counter[int]:
    """Value or code -> pixels over all masks; the coloured ones among values are left out."""
    total: Counter[int] = Counter()
    for look in looks:
        if as_colours or look.kind != "colours":
            total.update(look.counted(as_colours))
    return total


def _reading(name: str, looks: Sequence[MaskLook], classes: ClassSet, meaning: Meaning, as_colours: bool) -> Reading:
    counts = counts_of(looks, as_colours)
    seen = {meaning[value] for value in counts if value in meaning} - {IGNORE}
    stray = sum(pixels for value, pixels in counts.items() if value not in meaning)
    if not as_colours:
        stray += sum(sum(look.counts.values()) for look in looks if look.kind == "colours")
    rule = MaskRule(classes=classes, meaning=meaning, as_colours=as_colours)
    rule = replace(rule, line=line_of(rule, counts))
    return Reading(name, rule, len(classes) - len(seen), stray)


def _in_order(values: Sequence[int], ignored: Meaning) -> dict[int, int]:
    """The first value is the first class, and so on."""
    return {**{value: train_id for train_id, value in enumerate(values)}, **ignored}


def value_readings(looks: Sequence[MaskLook], classes: ClassSet | None, asked: Asked) -> list[Reading]:
    """Indices; as many values as classes, in order; noise about 0 and 255."""
    ignored = {} if asked.ignore_value is None else {asked.ignore_value: IGNORE}
    counts = counts_of(looks, as_colours=False)
    found = sorted(set(counts) - set(ignored))
    if classes is None:
        return [_made_of_values(looks, found, ignored, asked)] if found else []
    if (named := _values_named(classes)) is not None:
        return [_of_objects(_reading("values", looks, classes, {IGNORE: IGNORE, **named, **ignored}, False), looks)]
    number = len(classes)
    index = {**{value: value for value in range(number)}, IGNORE: IGNORE, **ignored}
    readings = [_reading("indices", looks, classes, index, False)]
    indices = readings[0]
    spread = found == list(range(1, number + 1)) or sum(value >= number for value in found) * 2 >= number
    if len(found) == number and found != list(range(number)) and (number == 2 or spread):
        in_order = _in_order(found, ignored)
        readings.append(_reading("values in order", looks, classes, in_order, False))
    if number == 2 and indices.stray and (parted := _parted(looks, found, counts, asked)) is not None:
        readings.append(_reading(parted, looks, classes, {**_HALVES, **ignored}, False))
    return [_of_two(one) for one in readings] if number == 2 else readings


def _values_named(classes: ClassSet) -> dict[int, int] | None:
    """What the values mean by the names that `_made_of_values` gave their classes; None: other names."""
    values = [re.fullmatch(r"value (\d+)|background", name) for name in classes.names]
    if not all(values) or not any(match and match[1] for match in values):
        return None
    return {int(match[1] or 0): train_id for train_id, match in enumerate(values) if match}


_HALVES = {value: int(value > 127) for value in range(256)}


def _parted(looks: Sequence[MaskLook], found: list[int], counts: Counter[int], asked: Asked) -> str | None:
    """What lies between two values, where 128 parts it into theirs: noise, or edges that were drawn smoothly."""
    if len(found) > 2 and _is_noise(looks, found, counts):
        return "noise about 0 and 255"
    ends = found[:1] == [0] and found[-1] == 255 and len(found) >= 2 + FEWEST_SHADES
    between = counts.total() - counts[0] - counts[255]
    if not ends or asked.smoothed or between > MOST_SHADES * counts.total():
        return None
    alone = max(counts[value] for value in found[1:-1])
    paths = [look.path for look in looks if len(look.counts) > 2]
    return "smoothed edges" if alone <= MOST_ALONE * between and are_edges(paths) else None


def _is_noise(looks: Sequence[MaskLook], found: list[int], counts: Mapping[int, int]) -> bool:
    """Whether there are two values and noise on both: none far from 0 and 255, or a fiftieth of a JPEG's pixels."""
    if found[-1] > 255 or found[-1] < 255 - _NEAR or found[0] > _NEAR:
        return False
    far = sum(counts[value] for value in found if _NEAR < value < 255 - _NEAR)
    if any(look.was == "JPEG" for look in looks):
        return far <= 0.02 * sum(counts.values())
    return (
        far == 0 and any(0 < value <= _NEAR for value in found) and any(255 - _NEAR <= value < 255 for value in found)
    )


def colour_readings(
    looks: Sequence[MaskLook], classes: ClassSet | None, asked: Asked, *, surely: bool
) -> list[Reading]:
    """The colours of the class list; two colours and two classes; colours of their own where there is no list."""
    ignored = {code_of(colour): IGNORE for colour in asked.ignore_colours}
    counts = counts_of(looks, as_colours=True)
    found = [code for code, _ in counts.most_common() if code not in ignored and code < BEYOND]
    if classes is None:
        return [_made_of_colours(looks, found, ignored)] if surely and found else []
    codes = [code_of(colour) for colour in classes.palette]
    if len(set(codes)) < len(codes):
        if not surely:
            return []
        first, second = next((a, b) for a in range(len(codes)) for b in range(a) if codes[a] == codes[b])
        raise explain(
            "classes of colour masks",
            found=f"{classes.names[second]} and {classes.names[first]} of one colour {classes.palette[first]}",
            needed="a colour of its own for each class",
            fix="Correct classes.json: which of them a pixel shows could not be told.",
        )
    meaning = _in_order(codes, ignored)
    if surely and len(classes) == 2 and len(found) == 2 and not set(found) <= set(codes):
        meaning = _two_colours(found, codes) | ignored
    return [_reading("colours", looks, classes, meaning, True)]


def _two_colours(found: list[int], codes: list[int]) -> dict[int, int]:
    """Two colours of two classes: one that is a class's is that class, else the darker is the first class."""
    known = [code for code in found if code in codes]
    if known:
        (other,) = set(found) - set(known)
        return {known[0]: codes.index(known[0]), other: 1 - codes.index(known[0])}
    return _in_order(sorted(found, key=_brightness), {})


def _brightness(code: int) -> tuple[int, int]:
    return sum(colour_of(code)), code


def with_background(looks: Sequence[MaskLook], classes: ClassSet, asked: Asked) -> ClassSet:
    """One class means that class against the rest."""
    (name,), (own,) = classes.names, classes.palette
    background = "background" if name != "background" else "other"
    if asked.masks_as == "colour" or any(look.kind == "colours" for look in looks):
        ignored = {code_of(colour) for colour in asked.ignore_colours}
        others = [c for c, _ in counts_of(looks, True).most_common() if c not in ignored | {code_of(own), BEYOND}]
        colour = colour_of(others[0]) if others else (0, 0, 0)
    else:
        colour = (0, 0, 0)
    if colour == own:
        colour = (255, 255, 255)
    return ClassSet((background, name), (colour, own))


def _made_of_values(looks: Sequence[MaskLook], found: list[int], ignored: Meaning, asked: Asked) -> Reading:
    """A class a value; 255 beside 0, 1, ... is ignored."""
    if found[-1] == IGNORE and 2 < len(found) <= _MOST_MADE and found[:-1] == list(range(len(found) - 1)):
        found, ignored = found[:-1], {**ignored, IGNORE: IGNORE}
    elif (parted := _parted(looks, found, counts_of(looks, as_colours=False), asked)) is not None:
        return _of_two(_reading(parted, looks, _two(looks), {**_HALVES, **ignored}, False))
    if len(found) > _MOST_MADE:
        first_two = _in_order(found[:2], ignored)
        problem = _numbers(looks, len(found)) or _too_many(
            looks, len(found), "give --data.values 0-127=background 128-255=foreground", as_colours=False
        )
        return _unknown(looks, first_two, problem, as_colours=False)
    if asked.masks_as is None and _objects(looks) >= _FEWEST_OBJECTS:
        problem = _objects_numbered(f"1 to {len(found) - 1} in the fullest mask and fewer in others, none left out")
        return _unknown(looks, _in_order(found[:2], ignored), problem, as_colours=False)
    names = tuple("background" if value == 0 else f"value {value}" for value in found)
    classes = _two(looks) if len(found) == 2 else ClassSet(names, VOC_PALETTE[: len(found)])
    shown = {index: code for look in looks for index, code in look.shown.items()}
    palette = tuple(
        colour_of(shown[value]) if value in shown else own for value, own in zip(found, classes.palette, strict=True)
    )
    if len(set(palette)) == len(palette):
        classes = ClassSet(classes.names, palette)
    made = _reading("values", looks, classes, _in_order(found, ignored), False)
    return _of_two(made) if len(found) == 2 else _of_objects(made, looks)


def _made_of_colours(looks: Sequence[MaskLook], found: list[int], ignored: Meaning) -> Reading:
    """A class a colour, black first, the others from dark to light."""
    counts = counts_of(looks, as_colours=True)
    often = [code for code in found if counts[code] >= _OFTEN * counts.total()]
    if len(found) > _MOST_MADE or are_blended(looks, counts, {*often, *ignored}):
        two = _in_order(found[:2], ignored)
        problem = _too_many(
            looks,
            len(found),
            "name those that are classes: --data.values 0,0,0=background 255,0,0=NAME ..., or classes.json. Blends of "
            "these at edges are then the nearer one's, or ignored with --data.smoothed",
            as_colours=True,
        )
        return _unknown(looks, two, problem, as_colours=True)
    found = sorted(found, key=_brightness)
    if len(found) == 2 and are_lines([look.path for look in looks if len(look.counts) > 1], as_colours=True):
        found = [max(found), min(found)]
    names = tuple("background" if code == 0 else f"colour {','.join(map(str, colour_of(code)))}" for code in found)
    if len(found) == 2:
        names = ("background", "foreground")
    meaning = _in_order(found, ignored)
    return _reading("colours", looks, ClassSet(names, tuple(map(colour_of, found))), meaning, True)


def _two(looks: Sequence[MaskLook]) -> ClassSet:
    """Of a lower and a higher value: the lower one is the foreground where it is lines in the other, as the membranes
    of 0 between cells of 255 are."""
    counts = counts_of(looks, as_colours=False)
    low = sum(pixels for value, pixels in counts.items() if value <= max(counts) // 2)
    names, colours = ("background", "foreground"), VOC_PALETTE[:2]
    if low < _MOST_LINES * counts.total() and are_lines([look.path for look in looks if len(look.counts) > 1]):
        names, colours = names[::-1], colours[::-1]
    return ClassSet(names, colours)


def _of_two(reading: Reading) -> Reading:
    """With what is to be said of it in its line."""
    said = {"smoothed edges": " (smoothed edges, parted at 128)"}.get(reading.name, "")
    if reading.rule.classes.names[0] == "foreground":
        said += " (the lower value is lines in the other)"
    return replace(reading, rule=replace(reading.rule, line=reading.rule.line + said))


def _of_objects(reading: Reading, looks: Sequence[MaskLook]) -> Reading:
    """With a question in its line where the values may be numbers of objects: each of them is one region too."""
    if not _objects(looks) or not are_regions([look.path for look in looks if len(look.counts) > 2]):
        return reading
    said = f" (or numbers of objects, as none is left out and each is one region? {_ONE_CLASS})"
    return replace(reading, rule=replace(reading.rule, line=reading.rule.line + said))


def _unknown(looks: Sequence[MaskLook], meaning: Meaning, problem: UserError, *, as_colours: bool) -> Reading:
    """Worse than any other reading: what the classes are is not known, and the rule says why."""
    pixels = sum(sum(look.counts.values()) for look in looks)
    rule = MaskRule(
        classes=ClassSet(("background", "foreground"), VOC_PALETTE[:2]),
        meaning=meaning,
        as_colours=as_colours,
        line="what they hold is not known",
        problem=str(problem),
    )
    return Reading("unknown", rule, absent=0, stray=pixels)


def _numbers(looks: Sequence[MaskLook], number: int) -> UserError | None:
    if are_edges([look.path for look in looks]):
        return None
    return _objects_numbered(f"{number} values in flat regions")


def _objects(looks: Sequence[MaskLook]) -> int:
    """How many objects are numbered in the fullest mask, where each mask has the values from 1 on without a gap, up to
    another one in each; 0: a value is missing here and there, as a class is."""
    values = [set(look.counts) - {0} for look in looks if look.kind == "values"]
    ends = {len(found) for found in values} - {0}
    numbered = len(values) == len(looks) and all(found == set(range(1, len(found) + 1)) for found in values)
    return max(ends) if numbered and len(ends) >= _FEWEST_ENDS else 0


def _objects_numbered(found: str) -> UserError:
    return explain(
        "masks without a class list",
        found=f"{found}, as numbers of objects are",
        needed=f"one value a class, at most {_MOST_MADE}",
        fix="For the borders between the objects (membranes): ducseg data convert stack DIR --out OUT; for objects on "
        f"a background of 0: {_ONE_CLASS}; if they are classes: name them in classes.json.",
    )


def _too_many(looks: Sequence[MaskLook], number: int, fix: str, *, as_colours: bool) -> UserError:
    what = "colours" if as_colours else "values"
    return explain(
        "masks without a class list",
        found=f"{number} {what} ({most_often(counts_of(looks, as_colours), as_colours, 6)}), as smoothed edges give",
        needed=f"one a class, at most {_MOST_MADE}",
        fix=f"Export the masks without smoothing, or {fix}.",
    )


def as_said(looks: Sequence[MaskLook], classes: ClassSet | None, asked: Asked) -> MaskRule:
    """`values`: VALUE=NAME, FROM-TO=NAME or R,G,B=NAME; NAME "ignore" is ignored."""
    pairs = [_parsed(entry) for entry in asked.values]
    as_colours = any(isinstance(what, tuple) for what, _ in pairs)
    names = list(dict.fromkeys(name for _, name in pairs if name != "ignore"))
    if classes is None:
        colours = {name: what for what, name in pairs if isinstance(what, tuple)}
        classes = ClassSet(tuple(names), tuple(colours.get(name, VOC_PALETTE[i]) for i, name in enumerate(names)))
    unknown = [name for name in names if name not in classes.names]
    if unknown or (as_colours and any(isinstance(what, range) for what, _ in pairs)):
        raise explain(
            "--data.values",
            found=f"no class {unknown[0]}" if unknown else "values and colours",
            needed=f"names of the classes {', '.join(classes.names)}, or ignore; values alone or colours alone",
            fix="Correct them, or classes.json.",
        )
    meaning = {code_of(colour): IGNORE for colour in asked.ignore_colours} if as_colours else {IGNORE: IGNORE}
    for what, name in pairs:
        train_id = IGNORE if name == "ignore" else classes.names.index(name)
        meaning |= {code_of(what): train_id} if isinstance(what, tuple) else dict.fromkeys(what, train_id)
    if asked.ignore_value is not None:
        meaning[asked.ignore_value] = IGNORE
    return _reading("values", looks, classes, meaning, as_colours).rule


def _parsed(entry: str) -> tuple[range | Colour, str]:
    what, equals, name = entry.partition("=")
    try:
        if not equals or not name.strip():
            raise ValueError(entry)
        if "," in what:
            red, green, blue = (int(part) for part in what.split(","))
            if not all(0 <= part <= 255 for part in (red, green, blue)):
                raise ValueError(entry)
            return (red, green, blue), name.strip()
        first, _, last = what.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span or span[-1] > 65535:
            raise ValueError(entry)
    except ValueError:
        raise explain(
            "--data.values", found=repr(entry), needed="0=background, 128-255=crack or 255,0,0=crack", fix="Correct it."
        ) from None
    return span, name.strip()
