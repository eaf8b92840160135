"""Label the frames of a clip: a video file, a camera or numbered pictures, into a video or into files."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.errors import explain, real, whole
from ducseg.figures.label_maps import colourise, tint
from ducseg.files import whole_file
from ducseg.inference.frames import Camera, Frame, Frames, PictureSequence, VideoFile, is_clip, open_av
from ducseg.inference.jobs import find_jobs
from ducseg.inference.labeller import Labeller
from ducseg.inference.video_writer import VideoWriter, check_target
from ducseg.inference.writers import EXACT, USUAL_KINDS, Kind, Outlines, needs_probabilities, result_name, write_results
from ducseg.progress import counted

__all__ = ["Clip", "ClipReport", "open_clip", "predict_clip"]

Picture = NDArray[np.uint8]

_DRAWN: Mapping[str, Callable[[Picture, Picture, ClassSet], Picture]] = {
    "labels": lambda _image, labels, _classes: labels,
    "color": lambda _image, labels, classes: colourise(labels, classes),
    "overlay": tint,
}


@dataclass(frozen=True)
class Clip:
    """Frames and where their results go.

    Attributes:
        frames: their source.
        out: a video, or the folder for the files of every frame.
        kinds: what is written: one for a video.
        to_video: whether `out` is one.
        names: of the frames' files in the folder; None: 000001 and so on.
        most: so many frames, then end; None: all.
    """

    frames: Frames
    out: Path
    kinds: Sequence[Kind]
    to_video: bool
    names: Sequence[Path] | None
    most: int | None


@dataclass(frozen=True)
class ClipReport:
    """What came of a clip.

    Attributes:
        frames: that were labelled and are kept.
        seconds: that it took.
        fault: why the source broke off after them; None: it did not.
        stopped: whether it was interrupted from the keyboard.
    """

    frames: int
    seconds: float
    fault: str | None
    stopped: bool

    @property
    def rate(self) -> float:
        """Frames labelled a second."""
        return self.frames / max(self.seconds, 1e-9)


def open_clip(
    inputs: Sequence[str],
    out: Path,
    *,
    kinds: Sequence[Kind] = (),
    fps: float | None = None,
    frames: int | None = None,
) -> Clip:
    """One video file or camera, or pictures, and where the results go; all is checked before a network is read.

    Args:
        inputs: one name of a video, camera:N, or what `find_pictures` takes.
        out: a video by its ending, or a folder.
        kinds: of a video one of overlay (default), color and labels; of a folder as `predict_files`.
        fps: frames a second of pictures that become a video; default 25.
        frames: so many, then end; None: all.

    Raises:
        UserError: PyAV is not installed, an input that does not open, options that do not fit each other.
    """
    to_video = bool(out.suffix) and not out.is_dir()
    wanted: Sequence[Kind] = (check_target(out, kinds),) if to_video else kinds or USUAL_KINDS
    most = None if frames is None else whole("--frames", frames, least=1, fix="Leave it out for all.")
    of_clip = any(map(is_clip, inputs))
    if fps is not None and (of_clip or not to_video):
        raise explain(
            "--fps",
            found="frames that have their own times" if of_clip else f"--out {out}, which is no video",
            needed="pictures that become a video",
            fix="Leave it out.",
        )
    if of_clip and len(inputs) > 1:
        raise explain(
            "inputs", found=f"{len(inputs)} beside a clip", needed="one clip", fix="Run it once for each of them."
        )
    if to_video and not of_clip:
        open_av()
    if of_clip:
        kind, _, number = inputs[0].partition(":")
        return Clip(
            Camera(number) if kind == "camera" else VideoFile(Path(inputs[0]).expanduser()),
            out,
            wanted,
            to_video,
            None,
            most,
        )
    names = None if to_video else {job.file: job.name for job in find_jobs(inputs, out, wanted)}
    rate = Fraction(real("--fps", 25 if fps is None else fps, positive=True, fix="25 is usual.")).limit_denominator(
        1001
    )
    sequence = PictureSequence(inputs, rate, leave_out=out)
    return Clip(
        sequence, out, wanted, to_video, None if names is None else [names[file] for file in sequence.files], most
    )


def predict_clip(labeller: Labeller, clip: Clip, *, outlines: Outlines = EXACT, progress: bool = True) -> ClipReport:
    """Label frame after frame; an interrupt from the keyboard ends it and keeps what is done.

    Args:
        labeller: called in the order of the frames, see `ducseg.inference.smoothing.Smoothed`.
        outlines: of polygons.

    Raises:
        UserError: no frame at all, sound that the video does not hold, a disk that refuses it.
    """
    labelled, began, stopped, known = 0, time.monotonic(), False, clip.frames.count or 0
    with _target(labeller, clip, outlines) as write, counted("frames") if progress else nullcontext() as show:
        with suppress(KeyboardInterrupt):
            stopped = True
            for frame in islice(clip.frames, clip.most):
                write(labelled, frame)
                labelled += 1
                if show is not None:
                    show(labelled, max(labelled, min(known, clip.most or known)))
            stopped = False
        if not labelled:
            raise explain(
                clip.frames.name,
                found=f"no frame ({clip.frames.fault or 'nothing came'})",
                needed="at least one",
                fix="Is it whole? Play it.",
            )
    return ClipReport(labelled, time.monotonic() - began, clip.frames.fault, stopped)


@contextmanager
def _target(labeller: Labeller, clip: Clip, outlines: Outlines) -> Iterator[Callable[[int, Frame], None]]:
    """What takes a frame's number and the frame."""
    classes, kinds = labeller.classes, clip.kinds
    if not clip.to_video:
        ask = labeller.probabilities if needs_probabilities(kinds) else labeller

        def write_files(number: int, frame: Frame) -> None:
            name = clip.names[number] if clip.names is not None else Path(f"{number + 1:06d}")
            found = ask(frame.image)
            results = {kind: clip.out / result_name(name, kind) for kind in kinds}
            write_results(results, frame.image, found, classes, outlines=outlines)

        yield write_files
        return
    (kind,) = kinds
    draw = _DRAWN[kind]
    with (
        whole_file(clip.out) as temporary,
        _explained(clip.out),
        VideoWriter(temporary, clip.frames, kind) as writer,
    ):
        yield lambda _number, frame: writer.write(draw(frame.image, labeller(frame.image), classes), frame.time)


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """What ffmpeg says while it writes, in one line."""
    try:
        yield
    except open_av().FFmpegError as error:
        raise explain(
            f"video {out}",
            found=error.strerror or str(error),
            needed="frames and sound that such a file holds, a disk with room",
            fix="Try a name that ends in .mkv, or --out DIR.",
        ) from error
