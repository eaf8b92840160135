"""What the pictures of a folder hold: RGB of 8 bits, or other channels and types, which all of them must share."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ducseg.data.files.channels import RGB, Pixels, check_pixels, stored_pixels
from ducseg.data.files.header import Header, tiff_header
from ducseg.errors import UserError, explain

__all__ = ["alpha_note", "check_alike", "common_pixels", "nodata_note"]

_GREY = Pixels(1, "uint8")


def common_pixels(pictures: Sequence[Path], *, as_stored: bool) -> Pixels:
    """What most pictures hold; grey and colours of 8 bits count as RGB. Files that do not read are passed over.

    Args:
        as_stored: grey of 8 bits counts as one channel.
    """
    counts = Counter(kind for path in pictures if (kind := _kind(path, as_stored)) is not None)
    return max(counts, key=lambda kind: (counts[kind], kind == RGB, kind), default=RGB)


def check_alike(pictures: Sequence[Path], wanted: Pixels, *, as_stored: bool) -> None:
    """Raise one `UserError` that counts the pictures that hold something else, or where nothing reads such pictures."""
    kinds = {path: _kind(path, as_stored) for path in pictures}
    if pictures and wanted != RGB:
        check_pixels(wanted, next((path for path, kind in kinds.items() if kind == wanted), pictures[0]))
    others = [(path, kind) for path, kind in kinds.items() if kind not in (wanted, None)]
    if others:
        path, kind = others[0]
        counted = Counter(_stored(one, one.stat().st_mtime_ns) for one, kind in kinds.items() if kind == wanted)
        usual = counted.most_common(1)[0][0] if counted else wanted  # grey counts as RGB, and is not
        raise explain(
            f"picture {path}" + (f" and {len(others) - 1} more" if others[1:] else ""),
            found=kind,
            needed=f"{usual}, as the other pictures hold",
            fix="Take them out, or convert them (gdal_translate -b, -ot); ducseg data check names them all.",
        )


def alpha_note(pictures: Sequence[Path]) -> str | None:
    """What is to be said where TIFFs have a channel marked as alpha, as GDAL marks the fourth of four by itself."""
    marked = next((path for path, header in _tiffs(pictures) if header.alpha), None)
    if marked is None:
        return None
    return (
        f"alpha: {marked.name} has a channel that is marked so, which is left out; if it is a band as the others are, "
        "such as infrared, take the mark away: gdal_translate -co ALPHA=NO -co PHOTOMETRIC=MINISBLACK IN OUT"
    )


def nodata_note(pictures: Sequence[Path], masks: Sequence[Path], ignore_value: int | None) -> str | None:
    """What is to be said where TIFFs name a value for no data; in masks it may be a class, as 0 often is."""
    of_pictures, of_masks = _nodata(pictures), _nodata(masks)
    said = []
    if of_pictures is not None:
        file, value = of_pictures
        said.append(f"{value} in {file.name}, which is void (255) in training and scores, as in prediction")
    if of_masks is not None and of_masks[1] not in ("0", "255", str(ignore_value)):
        file, value = of_masks
        said.append(f"{value} in the mask {file.name}, read as any value; --data.ignore-value {value} leaves it out")
    return f"no data: {'; '.join(said)}" if said else None


def _nodata(files: Sequence[Path]) -> tuple[Path, str] | None:
    return next(((path, header.nodata) for path, header in _tiffs(files) if header.nodata is not None), None)


def _tiffs(files: Sequence[Path]) -> Iterator[tuple[Path, Header]]:
    for path in files:
        with suppress(UserError):  # reading says what is wrong
            if path.suffix.lower() in (".tif", ".tiff") and (header := tiff_header(path)) is not None:
                yield path, header


def _kind(path: Path, as_stored: bool) -> Pixels | None:
    try:
        found = _stored(path, path.stat().st_mtime_ns)
    except (UserError, OSError):
        return None
    return RGB if found == _GREY and not as_stored else found


@lru_cache(maxsize=1 << 17)
def _stored(path: Path, _changed: int) -> Pixels:
    return stored_pixels(path)
