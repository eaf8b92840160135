"""The authors' released network, from arrays under its MXNet names: what it is, and its place for each array.

The released code (TuSimple-DUC, `resnet.py` and `network_duc_hdc.py`) is one network: a bottleneck ResNet with the 3x3
stem, stride 2 in the first 1x1 of res3, unpadded pooling, batch norms with eps 1e-6 and their own gamma (`fix_gamma`
is False throughout), the dilation schedule "released", DUC on summed ASPP paths. Its names give the depth and the
paths, its shapes the widths and the head's channels L * (8 / cell)**2.

Files are of people whom nobody need trust: a reader of a format (`weights.tusimple`, `onnx`) walks a file's headers and
skips its numbers: it holds names and shapes, never more of the file. Whether they are those of the network is decided
on these; only then are numbers read.
"""

import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.classes import CAMVID, CITYSCAPES, IGNORE, KITTI_ROAD, VOC2012, ClassSet
from ducseg.errors import UserError, explain, listed
from ducseg.models import Preprocessing, Segmenter, build
from ducseg.models.build import generic_classes
from ducseg.models.resnet import RESNETS
from ducseg.weights.structure import Unfilled

__all__ = ["MAX_ARRAYS", "MAX_DIMENSIONS", "PREPROCESSING", "BoundedFile", "StoredArray", "assemble"]

MAX_ARRAYS = 5_000
"""More than five times what the deepest network here has; bounds the time that a hostile file can take."""

MAX_DIMENSIONS = 8

_MAX_NAME = 500


class StoredArray(NamedTuple):
    """Where an array is in its file.

    Attributes:
        shape: every side above 0.
        kind: "float32", or what it is instead, such as "float16" or "row_sparse".
        offset: byte of its first number; C order, little-endian.
    """

    shape: tuple[int, ...]
    kind: str
    offset: int


class BoundedFile:
    """A file read from front to back that no length in it can lead past its end.

    Args:
        path: the file.
        format_name: what it should be, for messages.

    Attributes:
        position: byte that is read next.
        size: bytes of the file.

    Raises:
        UserError: it is not a readable file; and by every method, where the file is not what it should be.
    """

    def __init__(self, path: Path, format_name: str) -> None:
        self.path, self._format_name = path, format_name
        # A folder or a device is no file of weights, and reading a pipe could wait for ever.
        if not path.is_file():
            raise self.broken("no such file")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise self.broken(f"a file that does not open ({error.strerror})") from error
        self.size = os.fstat(self._file.fileno()).st_size
        self.position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._file.close()

    def broken(self, found: str) -> UserError:
        """The error to raise where the file is not what it should be."""
        return explain(
            f"weights {self.path}",
            found=found,
            needed=f"a whole {self._format_name}",
            fix="Check the path and the kind of file, or download it again.",
        )

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        self._check(count, what)
        data = self._file.read(count)
        self.position += len(data)
        if len(data) != count:  # it became shorter meanwhile
            raise self.broken(f"a file that ends at byte {self.position}, inside {what}")
        return data

    def skip(self, count: int, what: str) -> None:
        """Leave the next `count` bytes unread."""
        self._check(count, what)
        self.position += count
        self._file.seek(self.position)

    def numbers(self, code: str, what: str) -> tuple[int, ...]:
        """The next little-endian integers, `code` as for `struct`."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))

    def name(self, length: int) -> str:
        """The next `length` bytes as a name: printable ASCII, so that a message can show it as it is."""
        raw = self.take(min(length, _MAX_NAME + 1), "a name")
        text = raw.decode("ascii", errors="replace")
        if not 1 <= length <= _MAX_NAME or not text.isascii() or not text.isprintable():
            raise self.broken(f"an array with a name of {length} bytes, {raw[:40]!r}")
        return text

    def float32(self, array: StoredArray) -> NDArray[np.float32]:
        """Read one array, wherever it is; it belongs to the caller."""
        assert array.kind == "float32", array
        self.position = array.offset
        self._file.seek(array.offset)
        data = bytearray(self.take(4 * math.prod(array.shape), "an array"))
        values = np.frombuffer(data, "<f4").reshape(array.shape)
        if not np.isfinite(values).all():
            raise self.broken(f"infinite or undefined numbers in the array at byte {array.offset}")
        return values.astype(np.float32, copy=False)

    def _check(self, count: int, what: str) -> None:
        assert count >= 0, (count, what)
        left = self.size - self.position
        if count > left:
            raise self.broken(f"{count} bytes of {what} announced at byte {self.position}, where {left} are left")


PREPROCESSING = Preprocessing(mean=(122.675, 116.669, 104.008), std=(1.0, 1.0, 1.0))
"""RGB minus the mean of the released test configuration, not divided."""

_DATA_SETS = {"cityscapes": CITYSCAPES, "voc": VOC2012, "pascal": VOC2012, "kitti": KITTI_ROAD, "camvid": CAMVID}
"""Data sets by what their name in a head's name contains (the released code's `exp`)."""

_STRIDE = 8
_STEM = "conv1_1_3x3_s2_weight"


class _Layout(NamedTuple):
    """What a file's names and shapes say."""

    encoder: str
    width: int
    head: str
    """Name of the paths without their number, such as fc1_cityscapes."""
    paths: int
    classes: ClassSet
    cell: int


class _Place(NamedTuple):
    """Where an array belongs: the name of our tensor, and its shape."""

    key: str
    shape: tuple[int, ...]


def assemble(path: Path, arrays: Mapping[str, StoredArray], num_classes: int | None = None) -> Segmenter:
    """Build the released network that `arrays` are of, and read them into it.

    Nothing is built or read before every name and shape fits, so a file never takes more memory than its own size.

    Args:
        path: the file that the arrays are in.
        arrays: by MXNet's names, without "arg:" and "aux:".
        num_classes: L, for a file that does not tell it from the cell; None: as the file says.

    Returns:
        The segmenter in evaluation mode.

    Raises:
        UserError: another network; arrays missing, left over, of another shape or not float32; L not told.
    """
    layout = _infer(path, arrays, num_classes)
    places = dict(_places(layout))
    problems = [f"no {name}" for name in places if name not in arrays]
    problems += [f"{name}, which it does not have" for name in arrays if name not in places]
    for name in (name for name in places if name in arrays):
        array, wanted = arrays[name], places[name].shape
        if array.kind != "float32":
            problems.append(f"{name} as {array.kind} where dense float32 is needed")
        elif array.shape != wanted:
            problems.append(f"{name} {array.shape} where {wanted} is needed")
    if problems:
        raise _unfit(path, layout.encoder, problems)
    segmenter = _build(layout)
    own = segmenter.state_dict()
    with BoundedFile(path, "file of weights") as file, torch.no_grad():
        for name, place in places.items():
            own[place.key].copy_(torch.from_numpy(file.float32(arrays[name])))
    return segmenter.eval()


def _build(layout: _Layout) -> Segmenter:
    with Unfilled():
        return build(
            layout.encoder,
            "duc",
            len(layout.classes),
            output_stride=_STRIDE,
            cell=layout.cell,
            aspp=layout.paths,
            dilation="released",
            stem="3x3",
            stride_in="1x1",
            pool_padding=False,
            batch_norm_eps=1e-6,
            width=layout.width,
            classes=layout.classes,
            preprocessing=PREPROCESSING,
        )


def _infer(path: Path, arrays: Mapping[str, StoredArray], num_classes: int | None) -> _Layout:
    heads = [match for name in arrays if (match := re.fullmatch(r"(fc1_(\w+))_c(\d+)_weight", name))]
    missing = [] if _STEM in arrays else [_STEM]
    missing += [] if heads else ["fc1_NAME_c0_weight"]
    if missing:
        raise _unfit(path, "the network", [f"no {name}" for name in missing])
    blocks = tuple(
        sum(1 for name in arrays if re.fullmatch(rf"conv{stage}_\d+_3x3_weight", name)) for stage in (2, 3, 4, 5)
    )
    depths = {row.blocks: encoder for encoder, row in RESNETS.items() if row.bottleneck}
    if blocks not in depths:
        raise _unfit(path, "the network", [f"{blocks} blocks in res2..res5 where one of {sorted(depths)} is needed"])
    name, data_set = heads[0][1], heads[0][2]
    classes, cell = _classes(path, arrays[heads[0][0]].shape[0], data_set, num_classes)
    return _Layout(depths[blocks], arrays[_STEM].shape[0], name, len(heads), classes, cell)


def _classes(path: Path, channels: int, data_set: str, num_classes: int | None) -> tuple[ClassSet, int]:
    """The classes and the cell of a head of L * (8 / cell)**2 channels."""
    named = next((known for part, known in _DATA_SETS.items() if part in data_set.lower()), None)
    cells = {}
    for cell in (1, 2, 4):
        count, rest = divmod(channels, (_STRIDE // cell) ** 2)
        if not rest and 1 <= count <= IGNORE:
            cells[count] = cell
    if num_classes is not None:
        likely = [num_classes] if num_classes in cells else []
    elif named is not None and len(named) in cells:
        likely = [len(named)]
    else:  # the paper has cells 1 and 2 only
        published = [count for count, cell in cells.items() if cell < 4]
        known = [count for count in published if count in {len(one) for one in _DATA_SETS.values()}]
        likely = known or published
    if len(likely) != 1:
        options = [f"{count} classes with cell {cell}" for count, cell in cells.items()]
        raise explain(
            f"weights {path}",
            found=f"a head of {channels} channels, which is {' or '.join(options) or 'of no DUC'}",
            needed=f"one number of classes{'' if num_classes is None else f', not {num_classes}'}",
            fix="Say it: load(path, num_classes=N), or --num-classes N.",
        )
    (count,) = likely
    if named is not None and len(named) == count:
        return named, cells[count]
    return (CITYSCAPES if count == len(CITYSCAPES) else generic_classes(count)), cells[count]


def _places(layout: _Layout) -> Iterator[tuple[str, _Place]]:
    """Every array of the released network: its MXNet name and its place."""
    width = layout.width
    yield from _conv_bn("conv1_1_3x3_s2", "encoder.conv1.0", "encoder.conv1.1", (width, 3, 3, 3))
    yield from _conv_bn("conv1_2_3x3", "encoder.conv1.3", "encoder.conv1.4", (width, width, 3, 3))
    yield from _conv_bn("conv1_3_3x3", "encoder.conv1.6", "encoder.bn1", (2 * width, width, 3, 3))
    channels = 2 * width
    for stage, blocks in enumerate(RESNETS[layout.encoder].blocks):
        inner = width * 2**stage
        for block in range(blocks):
            yield from _bottleneck(f"conv{stage + 2}_{block + 1}", f"encoder.layer{stage + 1}.{block}", channels, inner)
            channels = 4 * inner
    out = len(layout.classes) * (_STRIDE // layout.cell) ** 2
    for path in range(layout.paths):
        ours = f"head.paths.{path}.conv"
        yield f"{layout.head}_c{path}_weight", _Place(f"{ours}.weight", (out, channels, 3, 3))
        yield f"{layout.head}_c{path}_bias", _Place(f"{ours}.bias", (out,))


def _bottleneck(name: str, ours: str, channels: int, inner: int) -> Iterator[tuple[str, _Place]]:
    yield from _conv_bn(f"{name}_1x1_reduce", f"{ours}.conv1", f"{ours}.bn1", (inner, channels, 1, 1))
    yield from _conv_bn(f"{name}_3x3", f"{ours}.conv2", f"{ours}.bn2", (inner, inner, 3, 3))
    yield from _conv_bn(f"{name}_1x1_increase", f"{ours}.conv3", f"{ours}.bn3", (4 * inner, inner, 1, 1))
    if name.endswith("_1"):
        shape = (4 * inner, channels, 1, 1)
        yield from _conv_bn(f"{name}_1x1_proj", f"{ours}.downsample.0", f"{ours}.downsample.1", shape)


def _conv_bn(name: str, conv: str, norm: str, shape: tuple[int, ...]) -> Iterator[tuple[str, _Place]]:
    yield f"{name}_weight", _Place(f"{conv}.weight", shape)
    for theirs, ours in (
        ("gamma", "weight"),
        ("beta", "bias"),
        ("moving_mean", "running_mean"),
        ("moving_var", "running_var"),
    ):
        yield f"{name}/bn_{theirs}", _Place(f"{norm}.{ours}", shape[:1])


def _unfit(path: Path, network: str, problems: list[str]) -> UserError:
    return explain(
        f"weights {path}",
        found=listed(problems, 10),
        needed=f"exactly the arrays of {network} as the authors released it (3x3 stem, bottlenecks, DUC on ASPP paths)",
        fix="Weights of other networks load by --model.weights: torchvision's, timm's.",
    )
