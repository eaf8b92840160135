"""A video of label maps or overlays beside the sound of where the frames came from, whole or not there.

Times of frames are kept as they are, constant rate or not. Overlays and colours are H.264 (VP9 in WebM), BT.709;
labels are lossless grey, each pixel its class's index.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import UserError, explain
from ducseg.inference.frames import Frames, VideoFile, open_av
from ducseg.inference.writers import Kind

__all__ = ["WRITTEN_SUFFIXES", "VideoWriter", "check_target"]

_CODECS = {".mp4": "libx264", ".mov": "libx264", ".m4v": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
WRITTEN_SUFFIXES = frozenset(_CODECS)
"""Names (lower case) of videos that can be written."""

_FORMATS = {".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_GOOD = {"libx264": {"crf": "18", "preset": "veryfast"}, "libvpx-vp9": {"crf": "24", "b:v": "0", "cpu-used": "6"}}
_EXACT = {"libx264": {"qp": "0", "preset": "veryfast"}}
_BT709, _LIMITED, _FULL = 1, 1, 2  # ffmpeg's numbers


class VideoWriter:
    """Frames of one size into a file, with the sound of the source where it has some.

    Args:
        path: of the video, already a temporary one.
        frames: what the times and the sound are taken from.
        kind: what is written: RGB, or labels (H, W).

    Raises:
        UserError: labels as WebM; sound that the container does not hold.
    """

    def __init__(self, path: Path, frames: Frames, kind: Kind) -> None:
        self._av, self.path, self.kind, self._frames = open_av(), path, kind, frames
        self.codec = _CODECS[path.suffix.lower()]
        self._container = self._av.open(str(path.absolute()), "w", format=_FORMATS.get(path.suffix.lower(), "mp4"))
        self._sounds: dict[int, Any] = {}
        self._early: list[Any] = []  # sound before the first frame, whose size the file's header tells
        self._stream = self._container.add_stream(
            self.codec, rate=frames.rate, options=(_EXACT if kind == "labels" else _GOOD)[self.codec]
        )
        self._stream.codec_context.time_base = frames.clock
        if isinstance(frames, VideoFile):
            self._take_sound(frames)

    def _take_sound(self, source: VideoFile) -> None:
        for sound in source.sounds:
            if sound.codec_context is not None and sound.codec_context.name in self._container.supported_codecs:
                self._sounds[sound.index] = self._container.add_stream_from_template(sound)
                continue
            name = sound.codec_context.name if sound.codec_context is not None else "an unknown form"
            raise explain(
                f"--out {self.path.suffix}",
                found=f"sound in {name}, which such a file does not hold",
                needed="a file that does: the sound is copied as it is",
                fix="Choose a name that ends in .mkv.",
            )
        source.sound = self._copy_sound

    def _copy_sound(self, packet: Any) -> None:
        target = self._sounds.get(packet.stream.index)
        if target is not None and packet.dts is not None:  # without: the end of the stream
            packet.stream = target
            if self._stream.codec_context.is_open:
                self._container.mux(packet)
            else:
                self._early.append(packet)

    def write(self, picture: NDArray[np.uint8], time: Fraction) -> None:
        """Add labels (H, W) or RGB (H, W, 3), shown from `time` seconds on."""
        if not self._stream.codec_context.is_open:
            self._open(picture.shape[0], picture.shape[1])
        if self.kind == "labels":
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")
            frame.color_range = _FULL
        else:
            rgb = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = rgb.reformat(format=self._stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = round(time / self._frames.clock), self._frames.clock
        self._container.mux(self._stream.encode(frame))
        self._container.mux(self._early)
        self._early.clear()

    def _open(self, height: int, width: int) -> None:
        even = height % 2 == 0 and width % 2 == 0
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "gray" if self.kind == "labels" else "yuv420p" if even else "yuv444p"
        context = self._stream.codec_context
        context.sample_aspect_ratio = self._frames.pixel_ratio
        context.color_range = _FULL if self.kind == "labels" else _LIMITED
        if self.kind != "labels":
            context.colorspace = context.color_primaries = context.color_trc = _BT709

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode())

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        self._container.close()


def check_target(path: Path, kinds: Sequence[Kind]) -> Kind:
    """The one kind to be written as a video, an overlay where none is chosen.

    Raises:
        UserError: another ending, several kinds, probabilities, labels as WebM.
    """

    def wrong(what: str, found: object, needed: str) -> UserError:
        return explain(what, found=found, needed=needed, fix="With --out DIR every frame's files are written.")

    suffix = path.suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise wrong(f"--out {path}", suffix, f"one of {', '.join(sorted(WRITTEN_SUFFIXES))}")
    kind: Kind = kinds[0] if kinds else "overlay"
    if len(kinds) > 1 or kind not in ("overlay", "color", "labels"):
        raise wrong("--kinds", " ".join(kinds), "one of overlay, color and labels for a video")
    if kind == "labels" and suffix == ".webm":
        raise wrong(f"--out {path}", "labels as WebM", ".mp4 or .mkv, in which they are exact")
    return kind
