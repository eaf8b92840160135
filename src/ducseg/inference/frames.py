"""Where the frames of a clip come from: a video file, a camera, pictures in the order of their numbers.

Each source gives upright RGB frames of one size with their times, and says what it knows of them. One that breaks off
gives what came before and leaves why in `fault`.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.overlapping import silent_opencv
from ducseg.data.files.reading import read_image
from ducseg.errors import UserError, explain, package
from ducseg.inference.read_ahead import read_ahead
from ducseg.inference.sources import find_pictures

__all__ = [
    "VIDEO_SUFFIXES",
    "Camera",
    "Frame",
    "Frames",
    "PictureSequence",
    "VideoFile",
    "is_clip",
    "natural",
    "open_av",
]

VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
)
"""Names (lower case) of the files that are taken for clips."""

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,gif,asf"
"""What ffmpeg may take a file for: nothing that names other files or addresses, as playlists do."""


@dataclass(frozen=True)
class Frame:
    """RGB uint8 (H, W, 3), shown from `time` seconds on."""

    image: NDArray[np.uint8]
    time: Fraction


class Frames(Protocol):
    """A source of frames.

    Attributes:
        name: as a message calls it.
        count: of frames, about; None: not known.
        rate: frames a second, about.
        clock: the unit of time, in seconds; every frame's time is a multiple.
        pixel_ratio: width by height of a pixel.
        fault: why it broke off, once it has been read; None: it did not.
    """

    name: str
    count: int | None
    rate: Fraction
    clock: Fraction
    pixel_ratio: Fraction
    fault: str | None

    def __iter__(self) -> Iterator[Frame]: ...


def open_av() -> Any:
    """PyAV; raises UserError where it is not installed."""
    return package("av", what="a video", install="'ducseg[video]'")


def is_clip(given: str) -> bool:
    """Whether an input is a video file by its name, or a camera."""
    return given.startswith("camera:") or (Path(given).suffix.lower() in VIDEO_SUFFIXES and not Path(given).is_dir())


class VideoFile:
    """The first video of a file, turned upright as its file says; its sound is handed on as packets.

    Raises:
        UserError: PyAV is not installed, no such file, no video in it.
    """

    def __init__(self, path: Path) -> None:
        av = open_av()
        self.path, self.name = path, str(path)
        self.fault: str | None = None
        self.sound: Callable[[Any], None] = lambda _packet: None
        if not path.is_file() or not path.stat().st_size:
            raise explain(
                f"video {path}",
                found="0 bytes" if path.is_file() else "no such file",
                needed="a video that ffmpeg reads",
                fix=f"It was looked for at {path.absolute()}.",
            )
        try:
            self.container = av.open(
                str(path.absolute()), options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            raise self._unreadable(_reason(error)) from None
        if not self.container.streams.video:
            raise self._unreadable("no video in it")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.sounds = list(self.container.streams.audio)
        self.count: int | None = self.stream.frames or None
        self.rate = Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)
        self.clock = Fraction(self.stream.time_base or Fraction(1, 90000))
        self.pixel_ratio = self._stored_ratio = Fraction(self.stream.sample_aspect_ratio or 1)

    def __iter__(self) -> Iterator[Frame]:
        errors = (open_av().FFmpegError, ValueError, OSError, MemoryError)
        size: tuple[int, ...] | None = None
        shown, end = 0, Fraction(0)
        with self.container:
            packets = self.container.demux([self.stream, *self.sounds])
            while True:
                try:
                    packet = next(packets, None)
                    if packet is None:
                        break
                    if packet.stream is not self.stream:
                        self.sound(packet)
                        continue
                    decoded = [self._frame(frame, end) for frame in packet.decode()]
                except errors as error:
                    self.fault = _reason(error)
                    return
                for frame in decoded:
                    if size not in (None, frame.image.shape):
                        self.fault = (
                            f"frame {shown + 1} has another size, {frame.image.shape[0]} x {frame.image.shape[1]}"
                        )
                        return
                    size, shown, end = frame.image.shape, shown + 1, frame.time + 1 / self.rate
                    yield frame
            expected = self._expected_end()
            if expected is not None and expected - end > max(Fraction(1, 4), 2 / self.rate):
                self.fault = f"it ends at {float(end):.2f} of {float(expected):.2f} seconds"

    def _frame(self, frame: Any, end: Fraction) -> Frame:
        turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
        if round(frame.rotation / 90) % 2:
            self.pixel_ratio = 1 / self._stored_ratio
        at = end if frame.pts is None else Fraction(frame.pts) * Fraction(frame.time_base)
        return Frame(np.ascontiguousarray(turned), at)

    def _expected_end(self) -> Fraction | None:
        """When the last frame should end; None: the file does not say."""
        start = Fraction(self.stream.start_time or 0) * self.clock
        if self.container.format.name == "avi":  # the header counts ticks; ffmpeg's duration is of what is there
            return start + self.stream.frames * self.clock if self.stream.frames else None
        known = []
        if self.stream.duration:
            known.append(start + self.stream.duration * self.clock)
        told = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", self.stream.metadata.get("DURATION", ""))
        if told:
            known.append(Fraction(told[1]) * 3600 + Fraction(told[2]) * 60 + Fraction(told[3]))
        if known and self.container.duration:
            known.append(start + Fraction(self.container.duration, 1_000_000))
        return min(known, default=None)

    def _unreadable(self, reason: str) -> UserError:
        return explain(
            f"video {self.path}", found=reason, needed="a video that ffmpeg reads", fix="Is the file whole? Play it."
        )


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class Camera:
    """What a camera sees from now on, until it stops or the process is interrupted; times are those of arrival.

    Raises:
        UserError: no such camera.
    """

    def __init__(self, number: str) -> None:
        self.name = f"camera:{number}"
        self.count: int | None = None
        self.fault: str | None = None
        wrong = None if number.isdecimal() and len(number) < 10 else "no number of a camera"
        self._capture = None if wrong else _opened_camera(int(number))
        if self._capture is None or not self._capture.isOpened():
            raise explain(
                self.name,
                found=wrong or "no camera of that number that can be opened",
                needed="camera:0, or the number of another",
                fix="Is it plugged in, and free of other programs?",
            )
        self.clock, self.pixel_ratio = Fraction(1, 1000), Fraction(1)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1000) if 0 < rate < 1000 else Fraction(25)

    def __iter__(self) -> Iterator[Frame]:
        assert self._capture is not None
        began, last = time.monotonic(), -1
        try:
            while True:
                got, bgr = self._capture.read()
                if not got:
                    self.fault = "it stopped"
                    return
                last = max(last + 1, round((time.monotonic() - began) / self.clock)) if last >= 0 else 0
                yield Frame(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), last * self.clock)
        finally:
            self._capture.release()


def _opened_camera(number: int) -> cv2.VideoCapture:
    with silent_opencv:
        return cv2.VideoCapture(number)


class PictureSequence:
    """Pictures as frames, sorted by the numbers in their names (2 before 10), all of one size.

    Raises:
        UserError: no picture; as `find_pictures`.
    """

    def __init__(self, inputs: Sequence[str | Path], rate: Fraction, *, leave_out: Path | None = None) -> None:
        found = sorted(find_pictures(inputs, leave_out=leave_out), key=lambda pair: natural(pair[1].as_posix()))
        self.files, self.names = [file for file, _ in found], [name for _, name in found]
        self.name = f"{len(self.files)} pictures"
        self.rate, self.clock, self.pixel_ratio = rate, 1 / rate, Fraction(1)
        self.count: int | None = len(self.files)
        self.fault: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        size: tuple[int, ...] | None = None
        for number, (file, read) in enumerate(read_ahead(read_image, self.files)):
            try:
                image = read()
            except UserError as error:
                self.fault = str(error)
                return
            if size not in (None, image.shape):
                self.fault = f"{file} has another size than those before, {image.shape[0]} x {image.shape[1]} (H x W)"
                return
            size = image.shape
            yield Frame(image, number * self.clock)


def natural(name: str) -> list[Any]:
    """A key that sorts numbers in names by their value."""
    parts: Iterable[str] = re.split(r"(\d+)", name)
    return [(int(part), part) if index % 2 else part for index, part in enumerate(parts)]
