"""Overlapping patches of large frames, the paper's augmentation by cutting (section 4.1).

`Patches` shows the patches of a data set's frames as samples of their own, and reads the whole frame for each;
`ducseg.data.cut` writes them to disk once. Both give the same pixels.

| scheme | patches |
|---|---|
| `12-fold` | 800x800, 2 rows x 6 columns of each 1024x2048 frame, evenly spaced: 2,975 frames give 35,700 |
| `7-fold` | 880x880 about centres in row 512, columns 256, 512, ..., 1792, each moved inside a 160x160 square |
| `320-at-100` | 320x320 at stride 100, the last row and column flush with the border (KITTI road) |

The moving of `7-fold` is a random crop: its patches have a margin, 1040x1040 pixels, of which a crop of 880x880 begins
anywhere in a 160x160 square (`crop_size` (880, 880)), so a sample still follows from (seed, epoch, index). Frames of
another height than 1024 have `12-fold` and `7-fold` patches scaled with it. What lies outside the frame is the mean
colour and 255. Legend: sizes are (H, W), origins (top, left), in pixels.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate, product

from ducseg.data.files.reading import picture_size
from ducseg.data.paired import SegmentationDataset
from ducseg.data.resampling import Fill, Size, window_of
from ducseg.data.sample import Sample
from ducseg.data.transforms import IMAGENET_MEAN_COLOUR
from ducseg.errors import explain

__all__ = ["SCHEMES", "Patches", "Scheme", "even_grid", "grid_origins"]

Origins = tuple[tuple[int, int], ...]


def grid_origins(size: Size, patch: Size, stride: int) -> Origins:
    """Origins of patches at a stride, in reading order; the last row and column lie flush with the border.

    Every pixel is covered as long as the stride is not above the patch. A side shorter than the patch has one patch,
    which begins at 0.
    """
    assert stride > 0, stride
    starts: list[list[int]] = []
    for full, side in zip(size, patch):
        last = max(0, full - side)
        starts.append([*range(0, last, stride), last])
    rows, columns = starts
    return tuple(product(rows, columns))


def even_grid(size: Size, patch: Size, counts: tuple[int, int]) -> Origins:
    """Origins of counts = (rows, columns) patches from border to border, evenly spaced, in reading order.

    Raises:
        UserError: so few patches leave gaps.
    """
    starts: list[list[int]] = []
    for full, side, count in zip(size, patch, counts):
        last = max(0, full - side)
        if count * side < full:
            raise explain(
                f"patches of {patch[0]}x{patch[1]}",
                found=f"{counts[0]}x{counts[1]} of them on {size[0]}x{size[1]} pixels",
                needed="enough to cover every pixel",
                fix="These patches are laid out for frames twice as wide as high; use 320-at-100 for others.",
            )
        starts.append([round(number * last / max(1, count - 1)) for number in range(count)])
    rows, columns = starts
    return tuple(product(rows, columns))


@dataclass(frozen=True)
class Scheme:
    """A way to cut frames into patches.

    Attributes:
        name: its key in `SCHEMES`.
        count: patches a frame; None: it depends on the frame's size.
        place: size of a frame -> (size of its patches, their origins, which may lie outside the frame).
    """

    name: str
    count: int | None
    place: Callable[[Size], tuple[Size, Origins]]


_HEIGHT = 1024  # of the frames that 12-fold and 7-fold are stated for


def _twelve(size: Size) -> tuple[Size, Origins]:
    side = round(800 * size[0] / _HEIGHT)
    return (side, side), even_grid(size, (side, side), (2, 6))


def _seven(size: Size) -> tuple[Size, Origins]:
    if not 1.8 <= size[1] / size[0] <= 2.2:
        raise explain(
            "patches of 7-fold",
            found=f"a frame of {size[0]}x{size[1]} pixels (H x W)",
            needed="frames about twice as wide as high, along which the seven centres lie",
            fix="Use 320-at-100 for others.",
        )
    unit = size[0] / _HEIGHT
    side = round((880 + 160) * unit)
    centres = [(512 * unit, column * unit) for column in range(256, 1793, 256)]
    return (side, side), tuple((round(row - side / 2), round(column - side / 2)) for row, column in centres)


def _at_stride_100(size: Size) -> tuple[Size, Origins]:
    return (320, 320), grid_origins(size, (320, 320), 100)


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("12-fold", 12, _twelve),
        Scheme("7-fold", 7, _seven),
        Scheme("320-at-100", None, _at_stride_100),
    )
}


class Patches:
    """The patches of each frame as a `SegmentationDataset`; ids are FRAME_NN, NN counting in reading order.

    Args:
        dataset: whole frames.
        scheme: a key of `SCHEMES`.
        mean_colour: of what lies outside a frame.

    Raises:
        UserError: no such scheme, frames that it does not cover; as `dataset` when samples are read.
    """

    def __init__(self, dataset: SegmentationDataset, scheme: str, *, mean_colour: Fill = IMAGENET_MEAN_COLOUR) -> None:
        if scheme not in SCHEMES:
            raise explain("patch scheme", found=repr(scheme), needed=f"one of {', '.join(SCHEMES)}", fix="Correct it.")
        self.classes = dataset.classes
        self.frames, self.scheme, self.mean_colour = dataset, scheme, mean_colour
        counts = self._counts()
        self._starts = [0, *accumulate(counts)]
        self.ids = tuple(_patch_id(name, number) for name, count in zip(dataset.ids, counts) for number in range(count))

    def _counts(self) -> list[int]:
        """Patches of each frame; a file's header says its size, and a size that the scheme does not suit is refused."""
        count = SCHEMES[self.scheme].count
        paths = getattr(self.frames, "image_paths", None)
        if paths is not None:
            return [len(self._place(picture_size(path))[1]) for path in paths]
        if count is not None:
            return [count] * len(self.frames)
        return [len(self._place(self.frames[frame].size)[1]) for frame in range(len(self.frames))]

    def _place(self, size: Size) -> tuple[Size, Origins]:
        return SCHEMES[self.scheme].place(size)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._starts, index) - 1
        frame = self.frames[number]
        size, origins = self._place(frame.size)
        return self._patch(frame, size, origins[index - self._starts[number]], self.ids[index])

    def indices(self, frame: int) -> range:
        """Which patches are those of a frame."""
        return range(self._starts[frame], self._starts[frame + 1])

    def of_frame(self, frame: int) -> list[Sample]:
        """All patches of a frame, which is read once."""
        sample = self.frames[frame]
        size, origins = self._place(sample.size)
        names = (self.ids[index] for index in self.indices(frame))
        return [self._patch(sample, size, origin, name) for origin, name in zip(origins, names)]

    def _patch(self, frame: Sample, size: Size, origin: tuple[int, int], name: str) -> Sample:
        patch = window_of(frame, frame.size, origin, size, self.mean_colour)
        return replace(patch, id=name, original_size=size)


def _patch_id(frame: str, number: int) -> str:
    return f"{frame}_{number:02d}"
