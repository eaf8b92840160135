"""Clips: every frame at its time with the sound, what is cut short kept up to there, and masks that do not flicker."""

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.cli import main
from ducseg.errors import UserError
from ducseg.inference import frames as frames_module
from ducseg.inference.frames import VideoFile
from ducseg.inference.smoothing import Smoothed
from ducseg.inference.video import ClipReport, open_clip, predict_clip
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter

av = pytest.importorskip("av")

CLASSES = ClassSet(("dark", "middle", "bright"), ((0, 0, 255), (0, 255, 0), (255, 0, 0)))
SIZE = (48, 64)  # H x W
UNEVEN = [0, 40, 80, 140, 160, 300, 340, 350, 420, 460, 480, 600]  # milliseconds


class Brightness:
    """A third of the range a class."""

    classes, record = CLASSES, {}

    def __call__(self, image: Any, /) -> Any:
        return np.minimum(image.mean(2) // 86, 2).astype(np.uint8)

    def probabilities(self, image: Any, /) -> Any:
        return np.eye(3, dtype=np.float32)[self(image)].transpose(2, 0, 1)


def level(number: int) -> int:
    return (30, 128, 220)[number % 3]


def picture(number: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """One level above, the next one below, so that turning it shows."""
    made = np.full((*size, 3), level(number), np.uint8)
    made[size[0] // 2 :] = level(number + 1)
    return made


def clip(
    path: Path,
    times: list[int] = UNEVEN,
    *,
    size: tuple[int, int] = SIZE,
    sound: str | None = "aac",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    ratio: int = 1,
    noise: int = 0,
) -> Path:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options or {}) as container:
        video: Any = container.add_stream(codec, rate=25, options={"qp": "1"} if codec == "libx264" else {"b": "4M"})
        video.width, video.height, video.pix_fmt = size[1], size[0], "yuv420p" if size[1] % 2 == 0 else "yuv444p"
        clock = 25 if path.suffix == ".avi" else 1000
        video.codec_context.time_base = Fraction(1, clock)
        video.codec_context.sample_aspect_ratio = Fraction(ratio)
        audio: Any = None
        if sound:
            audio = container.add_stream(sound, rate=48000, layout="mono")
        for number, at in enumerate(times):
            shown = picture(number, size) + rng.integers(0, noise + 1, (*size, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = at * clock // 1000, Fraction(1, clock)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for number in range(times[-1] * 48 // 1024 if audio else 0):
            wave = np.sin(np.arange(1024 * number, 1024 * (number + 1)) / 20)[None].astype(np.float32)
            if audio.format.name == "s16":
                wave = (wave * 30000).astype(np.int16)  # type: ignore[assignment]
            piece = av.AudioFrame.from_ndarray(wave, format=audio.format.name, layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 48000, 1024 * number, Fraction(1, 48000)
            container.mux(audio.encode(piece))
        if audio:
            container.mux(audio.encode())
    return path


def run(
    inputs: Path | str | list[str], out: Path, *, smooth: float = 0.0, labeller: Any = None, **options: Any
) -> ClipReport:
    given = inputs if isinstance(inputs, list) else [str(inputs)]
    labeller = labeller or Brightness()
    made = open_clip(given, out, **options)
    return predict_clip(Smoothed(labeller, smooth) if smooth else labeller, made, progress=False)


def read(path: Path, format: str = "rgb24") -> list[tuple[Fraction, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        return [
            (Fraction(frame.pts or 0) * Fraction(frame.time_base or 1), frame.to_ndarray(format=format))
            for frame in container.decode(video=0)
        ]


def sound_of(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio)
        return [
            (Fraction(packet.pts or 0) * Fraction(packet.time_base or 1), bytes(packet))
            for packet in packets
            if packet.size
        ]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("source", ["mp4", "mkv"])
def test_times_labels_and_sound_are_kept(tmp_path: Path, source: str, ending: str) -> None:
    """Of a variable rate, to the source's clock; labels exactly, of what a decoder shows of the source."""
    path, out = clip(tmp_path / f"clip.{source}"), tmp_path / f"out.{ending}"
    done = run(path, out, kinds=("labels",))
    assert (done.frames, done.fault, done.stopped) == (12, None, False)
    before, after = read(path), read(out, "gray")
    assert [time for time, _ in before] == [Fraction(at, 1000) for at in UNEVEN]
    shift = after[0][0]  # of all streams: a Matroska file does not begin before 0, as sound in MP4 does
    assert 0 <= shift < Fraction(1, 40)
    assert max(abs(then + shift - now) for (then, _), (now, _) in zip(before, after)) <= Fraction(1, 1000)
    for (_, shown), (_, labels) in zip(before, after):
        assert (labels == Brightness()(shown)).all()
    assert len(after) == 12
    heard, kept = sound_of(path), sound_of(out)
    assert len(heard) > 20
    assert [data for _, data in kept] == [data for _, data in heard], "copied, not encoded again"
    assert max(abs(then + shift - now) for (then, _), (now, _) in zip(heard, kept)) <= Fraction(1, 1000)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(("ending", "size"), [("mp4", (48, 64)), ("webm", (48, 64)), ("mkv", (47, 63))])
def test_colours_come_out_as_they_are(tmp_path: Path, ending: str, size: tuple[int, int]) -> None:
    path, out = clip(tmp_path / "clip.mkv", size=size, sound=None), tmp_path / f"out.{ending}"
    assert run(path, out, kinds=("color",)).frames == 12
    with av.open(str(out)) as container:
        stream: Any = container.streams.video[0]
        assert (stream.height, stream.width) == size
    for (_, shown), (_, found) in zip(read(path), read(out)):
        wanted = np.asarray(CLASSES.palette, np.uint8)[Brightness()(shown)]
        inside = np.abs(found.astype(int) - wanted)[:18], np.abs(found.astype(int) - wanted)[30:]
        assert max(part.mean() for part in inside) < 6, "away from the edge, but for coding"


def test_the_overlay_is_the_picture_tinted(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    assert run(path, tmp_path / "out.mp4").frames == 12
    (_, shown), (_, found) = read(path)[0], read(tmp_path / "out.mp4")[0]
    assert found.shape == shown.shape
    tinted = 0.45 * shown[:18].mean((0, 1)) + 0.55 * np.asarray(CLASSES.palette[0])
    assert np.abs(found[:18].mean((0, 1)) - tinted).max() < 6


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_clip_is_labelled_and_shown_upright(tmp_path: Path, degrees: int) -> None:
    plain = clip(tmp_path / "plain.mp4", ratio=2)
    turned = tmp_path / "turned.mp4"
    data = bytearray(plain.read_bytes())
    at = data.index(b"tkhd", data.index(b"trak")) + 4 + 40  # the matrix of the first track, version 0
    cosine, sine = {90: (0, 1), 180: (-1, 0), -90: (0, -1)}[degrees]
    matrix = np.array([cosine, -sine, 0, sine, cosine, 0, 0, 0, 1], ">i4") * 65536
    matrix[8] = 1 << 30
    data[at : at + 36] = matrix.astype(">i4").tobytes()
    turned.write_bytes(data)
    with av.open(str(turned)) as container:
        rotation = next(container.decode(video=0)).rotation
    assert rotation == degrees or abs(rotation) == abs(degrees) == 180
    assert run(turned, tmp_path / "out.mp4", kinds=("labels",)).frames == 12
    for (_, shown), (_, labels) in zip(read(plain), read(tmp_path / "out.mp4", "gray")):
        assert (labels == np.rot90(Brightness()(shown), degrees // 90)).all()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0
        stream: Any = container.streams.video[0]
        assert stream.sample_aspect_ratio == (2 if degrees == 180 else Fraction(1, 2))


@pytest.mark.parametrize(("source", "options"), [("mp4", {"movflags": "faststart"}), ("mkv", {}), ("avi", {})])
@pytest.mark.parametrize("share", [0.45, 0.8])
def test_what_is_cut_short_is_kept_until_there_and_said(
    tmp_path: Path, source: str, options: dict[str, str], share: float
) -> None:
    codec = "mpeg4" if source == "avi" else "libx264"
    times = [40 * number for number in range(60)]
    path = clip(tmp_path / f"clip.{source}", times, options=options, sound=None, codec=codec, noise=30)
    whole = run(path, tmp_path / "whole.mp4", kinds=("labels",))
    assert (whole.frames, whole.fault) == (60, None)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    done = run(path, tmp_path / "out.mp4", kinds=("labels",))
    assert 0 < done.frames < 60
    assert done.fault is not None
    kept, undisturbed = read(tmp_path / "out.mp4", "gray"), read(tmp_path / "whole.mp4", "gray")
    assert len(kept) == done.frames
    assert all((one == other).all() for (_, one), (_, other) in zip(kept[:-2], undisturbed))


def bad_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    good = clip(folder / "good.mp4").read_bytes()
    yield "empty", b""
    yield "text", b"no video\n" * 50
    yield "playlist", f"#EXTM3U\n#EXTINF:10,\nfile://{folder}/good.mp4\n".encode()
    yield "list of files", f"ffconcat version 1.0\nfile {folder}/good.mp4\n".encode()
    yield "sound alone", clip_of_sound(folder / "sound.mp4")
    yield "without its table", good[: good.index(b"moov")]
    yield "zeros", bytes(5000)
    yield "noise", np.random.default_rng(0).bytes(5000)


def clip_of_sound(path: Path) -> bytes:
    with av.open(str(path), "w") as container:
        audio: Any = container.add_stream("aac", rate=48000, layout="mono")
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        piece.sample_rate = 48000
        container.mux(audio.encode(piece))
        container.mux(audio.encode())
    return path.read_bytes()


def test_what_is_no_video_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    for name, data in bad_files(tmp_path):
        (tmp_path / "bad.mp4").write_bytes(data)
        with pytest.raises(UserError) as caught:
            run(tmp_path / "bad.mp4", tmp_path / "out" / "out.mp4")
        assert "bad.mp4" in str(caught.value) and "\n" not in str(caught.value), name
        assert not list((tmp_path / "out").iterdir() if (tmp_path / "out").exists() else ()), name
    with pytest.raises(UserError, match="no such file"):
        run(tmp_path / "gone.mp4", tmp_path / "out.mp4")


@pytest.mark.parametrize("seed", range(12))
def test_damage_anywhere_is_a_fault_or_a_line(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = clip(tmp_path / "clip.mp4", options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    for place in rng.integers(0, len(data), 30):
        data[place] = rng.integers(256)
    path.write_bytes(data)
    try:
        done = run(path, tmp_path / "out.mkv", kinds=("labels",))
    except UserError as error:
        assert "\n" not in str(error)
        assert not (tmp_path / "out.mkv").exists()
    else:
        assert len(read(tmp_path / "out.mkv", "gray")) == done.frames > 0


def test_sound_that_the_container_does_not_hold_is_refused(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    with pytest.raises(UserError, match=r"--out \.webm: found sound in aac.*ends in \.mkv"):
        run(path, tmp_path / "out.webm")
    assert not (tmp_path / "out.webm").exists()


@pytest.mark.parametrize(
    ("inputs", "out", "options", "words"),
    [
        (["clip.mp4", "clip.mp4"], "out.mp4", {}, "one clip"),
        (["clip.mp4", "p/*.png"], "out.mp4", {}, "one clip"),
        (["clip.mp4"], "out.gif", {}, r"one of \.m4v, \.mkv"),
        (["clip.mp4"], "out.mp4", {"kinds": ("labels", "color")}, "one of overlay, color and labels"),
        (["clip.mp4"], "out.mp4", {"kinds": ("probabilities",)}, "one of overlay, color and labels"),
        (["clip.mp4"], "out.webm", {"kinds": ("labels",)}, r"\.mp4 or \.mkv, in which they are exact"),
        (["clip.mp4"], "out.mp4", {"fps": 10}, "frames that have their own times"),
        (["p"], "files", {"fps": 10}, "no video"),
        (["p"], "out.mp4", {"fps": 0}, "--fps"),
        (["p"], "out.mp4", {"fps": float("nan")}, "--fps"),
        (["clip.mp4"], "out.mp4", {"frames": 0}, "--frames"),
        (["p"], "p", {}, "the folder that the pictures are read from"),
        (["camera:x"], "out.mp4", {}, "camera:0"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inputs: list[str],
    out: str,
    options: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "clip.mp4")
    sequence(tmp_path / "p")
    with pytest.raises(UserError, match=words):
        run(inputs, Path(out), **options)
    assert names_in(tmp_path) == ["clip.mp4", "p"]


def sequence(folder: Path, count: int = 12) -> Path:
    folder.mkdir()
    for number in range(count):
        assert cv2.imwrite(str(folder / f"f{number}.png"), picture(number))
    return folder


def test_pictures_become_a_video_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = sequence(tmp_path / "p")
    for inputs, out in (([str(folder)], "a.mkv"), ([str(folder / "f*.png")], "b.mp4")):
        assert run(inputs, tmp_path / out, kinds=("labels",), fps=12.5).frames == 12
        found = read(tmp_path / out, "gray")
        assert [labels[0, 0] for _, labels in found] == [number % 3 for number in range(12)], "f2 before f10"
        assert max(abs(time - Fraction(2 * number, 25)) for number, (time, _) in enumerate(found)) <= Fraction(1, 1000)


def test_pictures_of_another_size_or_none_end_a_sequence(tmp_path: Path) -> None:
    folder = sequence(tmp_path / "p", 4)
    assert cv2.imwrite(str(folder / "f4.png"), np.zeros((20, 20, 3), np.uint8))
    done = run(folder, tmp_path / "out.mp4")
    assert done.frames == 4 and "f4.png has another size" in (done.fault or "")
    (folder / "f2.png").write_bytes(b"nothing")
    done = run(folder, tmp_path / "out.mp4")
    assert done.frames == 2 and "f2.png" in (done.fault or "")
    assert len(read(tmp_path / "out.mp4")) == 2


def test_a_clip_becomes_files_of_its_frames(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    assert run(path, tmp_path / "files", kinds=("labels", "probabilities"), frames=3).frames == 3
    names = [f"{number:06d}_{kind}" for number in (1, 2, 3) for kind in ("labels.png", "probabilities.npy")]
    assert names_in(tmp_path / "files") == names
    labels = cv2.imread(str(tmp_path / "files" / "000002_labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels is not None and (labels == Brightness()(read(path)[1][1])).all()
    assert np.load(tmp_path / "files" / "000002_probabilities.npy").shape == (3, *SIZE)


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


class FakeCamera:
    """Gives frames until it is switched off, or until somebody presses Ctrl-C."""

    ends: type[BaseException] | None = None

    def __init__(self, number: int) -> None:
        self.there, self.shown, self.released = number == 0, 0, False

    def isOpened(self) -> bool:
        return self.there

    def get(self, _what: int) -> float:
        return 30.0

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        if self.shown == 5:
            if self.ends is not None:
                raise self.ends
            return False, None
        self.shown += 1
        return True, picture(self.shown - 1)[..., ::-1]

    def release(self) -> None:
        self.released = True


def test_a_camera_until_it_stops_or_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module.cv2, "VideoCapture", FakeCamera)
    with pytest.raises(UserError, match="camera:1: found no camera of that number"):
        run("camera:1", tmp_path / "out.mp4")
    done = run("camera:0", tmp_path / "out.mp4", kinds=("labels",))
    assert (done.frames, done.fault, done.stopped) == (5, "it stopped", False)
    found = read(tmp_path / "out.mp4", "gray")
    assert [labels[0, 0] for _, labels in found] == [0, 1, 2, 0, 1]
    times = [time for time, _ in found]
    assert times[0] == 0 and times == sorted(set(times))
    monkeypatch.setattr(FakeCamera, "ends", KeyboardInterrupt)
    done = run("camera:0", tmp_path / "stopped.mp4", kinds=("labels",))
    assert (done.frames, done.fault, done.stopped) == (5, None, True)
    assert len(read(tmp_path / "stopped.mp4", "gray")) == 5
    assert run("camera:0", tmp_path / "three.mp4", frames=3).frames == 3


@pytest.mark.parametrize("number", ["97", "99999999999", "two"])
def test_a_camera_that_is_not_there_is_one_line(number: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=f"camera:{number}: found no "):
        run(f"camera:{number}", tmp_path / "out.mp4")
    assert capfd.readouterr().err == "", "OpenCV has nothing to add"


def moving_clip(count: int = 40, noise: float = 14.0) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """A bright disc that crosses a ground of two levels, seen by a noisy camera, and its truth."""
    rng, frames, truths = np.random.default_rng(0), [], []
    for number in range(count):
        truth = np.zeros((60, 96), np.uint8)
        truth[:, 48:] = 1
        cv2.circle(truth, (8 + 2 * number, 30), 9, 2, -1)
        clean = np.asarray((70, 105, 190), np.float32)[truth]
        noisy = clean[..., None] + rng.normal(0, noise, (60, 96, 3))
        frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
        truths.append(truth)
    return frames, truths


class Nearest:
    """Probabilities by how near a pixel is to a class's level."""

    classes, record = CLASSES, {}

    def probabilities(self, image: Any, /) -> Any:
        distance = image.mean(2, dtype=np.float32)[None] - np.asarray((70, 105, 190), np.float32)[:, None, None]
        found = np.exp(-np.square(distance) / 200)
        return found / found.sum(0)

    def __call__(self, image: Any, /) -> Any:
        return self.probabilities(image).argmax(0).astype(np.uint8)


def test_smoothing_takes_flicker_away_and_no_accuracy() -> None:
    frames, truths = moving_clip()

    def measured(share: float) -> tuple[float, float]:
        labeller = Smoothed(Nearest(), share)
        return flicker_and_error([labeller(frame) for frame in frames], truths)

    (flicker, error), (smoothed, smoothed_error) = measured(0.0), measured(0.7)
    assert flicker > 0.02, "there is something to mend"
    assert smoothed < flicker / 3
    assert smoothed_error < error


def flicker_and_error(found: list[NDArray[np.uint8]], truths: list[NDArray[np.uint8]]) -> tuple[float, float]:
    """Share of pixels whose label changes though the truth does not, and of wrong pixels."""
    still = [now == then for now, then in zip(truths[1:], truths)]
    changes = [(now != then)[same].mean() for now, then, same in zip(found[1:], found, still)]
    return float(np.mean(changes)), float(np.mean([labels != truth for labels, truth in zip(found, truths)]))


def test_after_a_cut_nothing_of_before_is_seen() -> None:
    labeller = Smoothed(Brightness(), 0.9)
    for number in (0, 0, 0, 2):
        found = labeller.probabilities(np.full((8, 8, 3), level(number), np.uint8))
    np.testing.assert_allclose(found[2], 1, atol=1e-6)


def test_the_average_is_the_recurrence_where_nothing_moves() -> None:
    answers = [np.full((2, 3, 3), value, np.float32) for value in (1.0, 0.0, 0.5)]
    given = iter(answers)
    still = SimpleNamespace(classes=CLASSES, record={}, probabilities=lambda _image: next(given))
    labeller: Any = Smoothed(still, 0.6)  # type: ignore[arg-type]
    image = np.full((3, 3, 3), 9, np.uint8)
    found = [labeller.probabilities(image) for _ in answers]
    for got, wanted in zip(found, (1.0, 0.6, 0.6 * 0.6 + 0.4 * 0.5)):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    other_size = labeller.probabilities  # a frame of another size has no past
    given = iter([np.zeros((2, 5, 5), np.float32)])
    assert (other_size(np.zeros((5, 5, 3), np.uint8)) == 0).all()


def test_what_moves_in_over_the_border_still_sums_to_one() -> None:
    """A clip that pans: where a place was partly outside, the past has a part of its share and keeps its sum."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (64, 200, 3), np.uint8), (0, 0), 4)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    labeller = Smoothed(Brightness(), 0.9)
    for left in np.arange(0, 30, 1.7):
        shift = np.array([[1, 0, -left], [0, 1, 0]], np.float32)
        found = labeller.probabilities(cv2.warpAffine(scene, shift, (96, 64)))
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0, float("nan")])
def test_no_share_of_the_past(share: float) -> None:
    with pytest.raises(UserError, match="--smooth"):
        Smoothed(Brightness(), share)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "checkpoint"
    save_segmenter(folder, build("resnet18", "duc", 3, aspp=0, width=4))
    return folder


def test_the_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = clip(tmp_path / "clip.mkv", [40 * number for number in range(60)])
    out = tmp_path / "out.mp4"
    common = ["predict", str(checkpoint), str(path), "--out", str(out), "--device", "cpu"]
    assert main([*common, "--smooth", "0.7", "--frames", "5"]) == 0
    said = capsys.readouterr().out
    assert f"5 frames predicted into {out} in" in said and "frames a second" in said
    path.write_bytes(path.read_bytes()[:-4000])
    assert main(common) == 1
    said = capsys.readouterr().out
    assert f"{path} broke off after" in said
    assert main([*common, "--shard", "0/2"]) == 2
    assert "found --shard" in capsys.readouterr().err
    folder = sequence(tmp_path / "p", 3)
    smoothed = ["predict", str(checkpoint), str(folder), "--out", str(tmp_path / "files"), "--device", "cpu"]
    assert main([*smoothed, "--smooth", "0.5", "--kinds", "labels"]) == 0
    assert names_in(tmp_path / "files") == [f"f{number}_labels.png" for number in range(3)]


def test_without_pyav_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    sequence(tmp_path / "p", 2)
    for given in ("clip.mp4", str(tmp_path / "p")):
        assert main(["predict", "x", given, "--out", str(tmp_path / "out.mp4")]) == 2
        said = capsys.readouterr().err
        assert "av is not installed" in said and "pip install 'ducseg[video]'" in said


def test_an_empty_clip_says_so_and_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UserError, match=r"0 bytes.*looked for at"):
        VideoFile(tmp_path / "empty.mp4")
