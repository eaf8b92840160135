"""`ducseg predict`: label pictures, or write what a benchmark's server takes."""

import os
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ducseg.cli.options import Batch, File, Kinds, RefinedNetwork, report
from ducseg.errors import explain

if TYPE_CHECKING:
    from ducseg.inference.shards import Shard
    from ducseg.inference.tiles import Tiling
    from ducseg.inference.writers import Outlines

__all__ = ["Options", "run"]

_SAME_RESULT = {
    "checkpoint", "ensemble", "inputs", "out", "device", "batch_size", "resume", "shard", "tar", "engine", "address",
    "workers", "smooth", "fps", "frames",
}  # fmt: skip
"""Options that do not change what a picture's result is, or are told by `Options.settings` in another form."""

_OF_MANY = ("resume", "shard", "tar", "engine", "address", "workers")
_OF_CLIPS = ("smooth", "fps", "frames")


@dataclass(frozen=True, kw_only=True)
class Options(Batch, RefinedNetwork):
    """Predict pictures: label PNGs, colour maps, overlays with a legend. Exits with 1 if a file could not be read.

    With --format, write what a benchmark's server takes, from a data set's folder. Results of an earlier run are
    replaced, with --resume or --shard only what is not done is predicted. A clip (a video file, or camera:0) becomes a
    video with its sound (--out FILE.mp4) or files of each frame (--out DIR), pictures in the order of their numbers a
    video.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders (searched recursively) and globs, pictures of any size; tars of pictures (WebDataset); URLs of
    fsspec (s3://...) of them; or one clip: a video file, camera:0; with --format, the data set's folder."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Folder for the results, or a URL of one; sub-folders of the inputs are kept. Of a clip also a .mp4, .mov, .mkv or
    .webm."""
    kinds: Kinds = ()
    """What to write (default: labels color overlay; of a video one, overlay). Confidence is grey, 255 is sure; polygons
    are GeoJSON; probabilities are .npy files, float16 (classes, height, width)."""
    simplify: Annotated[float | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Of polygons: borders may move by so many pixels, in maps by as many of the raster's; neighbours still meet."""
    least_area: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Of polygons: none of regions of fewer pixels."""
    tile: int | None = None
    """Label what is longer in windows of so many pixels, blended; memory then does not grow with the picture (default:
    1024 for what would not fit in memory)."""
    overlap: int | None = None
    """Of neighbouring windows, in pixels (default: a quarter of --tile)."""
    half: bool = False
    """Keep what a row of windows leaves unfinished in half precision: half of that memory. Implies --tile 1024."""
    resume: bool = False
    """Leave out what an earlier run with --resume or --shard has done whole, with these settings; keep a manifest."""
    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    """Only part I of N, from 0/N to N-1/N, as --resume (default: of several processes that srun or torchrun started,
    this one's)."""
    tar: int | None = None
    """Write the results into tars (WebDataset) of so many pictures, those of a tar into one tar."""
    engine: Literal["ray"] | None = None
    """Work on a cluster with Ray Data."""
    address: str | None = None
    """With --engine: of the cluster, or auto (default: one is started on this machine)."""
    workers: int | None = None
    """With --engine: so many (default: one a GPU, else one for each 4 cores)."""
    smooth: float = 0.0
    """Of a clip: average the probabilities over time, this the share of the past (0.7 is much; default: none)."""
    fps: float | None = None
    """Of pictures that become a video: frames a second (default: 25)."""
    frames: int | None = None
    """Of a clip: so many frames, then end (default: all; a camera until Ctrl-C)."""
    format: Literal["cityscapes", "kitti-road", "voc2012"] | None = None
    """Whose names, values and sizes to write."""
    split: str | None = None
    """With --format: default test."""
    fold: int | None = None
    """With --format kitti-road and --split val: which fold; default: the one that the run held out."""
    archive: Annotated[Path | None, tyro.conf.arg(name="zip", metavar="FILE")] = None
    """With --format: also pack the results there (.zip, VOC .tar.gz)."""
    figure: File | None = None
    """With --format kitti-road: also draw up to six frames with the road in red there (PNG)."""

    def given(self, *names: str) -> list[str]:
        """Those of these options that are not as they are by default."""
        usual = {field.name: field.default for field in fields(self)}
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != usual[name]]

    @property
    def folder(self) -> Path:
        """--out on a disk."""
        from ducseg.inference.places import is_url, local_path

        if is_url(self.out):
            raise explain(f"--out {self.out}", found="a URL", needed="a file or folder here", fix="Copy it after.")
        return local_path(self.out)

    def is_of_many(self) -> bool:
        """Whether pictures come from or go to other places than files on a disk."""
        from ducseg.inference.places import is_url
        from ducseg.inference.tars import is_tar

        return self.tar is not None or is_url(self.out) or any(is_url(one) or is_tar(one) for one in self.inputs)

    def taken_shard(self) -> "Shard | None":
        """What --shard says, else srun or torchrun, which is printed, else 0/1 with --resume; raises UserError."""
        from ducseg.inference.shards import Shard, parse_shard, shard_from

        if self.shard is not None:
            return parse_shard(self.shard)
        started = shard_from(os.environ)
        if started is not None:
            print(f"shard {started}, from {started.source} (--shard 0/1: all pictures)")
            return started
        return Shard(0, 1) if self.resume else None

    def is_of_a_clip(self) -> bool:
        """Whether frames follow each other: a clip goes in or comes out, or an option says so."""
        from ducseg.inference.frames import is_clip
        from ducseg.inference.video_writer import WRITTEN_SUFFIXES

        becomes = Path(self.out).suffix.lower() in WRITTEN_SUFFIXES and not Path(self.out).is_dir()
        meant = bool(self.smooth) or self.fps is not None or self.frames is not None
        return becomes or meant or any(map(is_clip, self.inputs))

    def on_device_of(self, shard: "Shard") -> "Options":
        """The same, on the GPU that is this process's of several on its machine, where none is named."""
        import torch

        if shard.local is None or self.device not in ("auto", "cuda") or torch.cuda.device_count() < 2:
            return self
        return replace(self, device=f"cuda:{shard.local % torch.cuda.device_count()}")

    def tiling(self) -> "Tiling | None":
        """What --tile, --overlap and --half say; raises UserError where they cannot be."""
        from ducseg.inference.tiles import Tiling

        return Tiling.given(self.tile, self.overlap, half=self.half, dashes="--")

    def outlines(self) -> "Outlines":
        """What --simplify and --least-area say; raises UserError where they cannot be, or no polygons are written."""
        from ducseg.inference.writers import Outlines

        given = self.given("simplify", "least_area")
        if given and "polygons" not in self.kinds:
            fix = "Add --kinds polygons, or leave it out."
            raise explain(" and ".join(given), found="no polygons to write", needed="some", fix=fix)
        return Outlines(self.simplify or 0.0, self.least_area or 0)

    def settings(self, kinds: tuple[str, ...]) -> str:
        """Digest of the checkpoint and of every option that changes a result."""
        from ducseg.inference.manifest import digest
        from ducseg.inference.many import network_digest

        chosen = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _SAME_RESULT}
        if self.crf is not None:
            from ducseg.inference.refine import crf_settings

            chosen["crf"] = crf_settings(self.crf)
        network = " ".join(map(network_digest, self.checkpoints))
        return digest(chosen | {"kinds": sorted(kinds), "network": network})


def run(options: Options) -> int:
    """Exit status 1 where a picture could not be read."""
    options = replace(options, inputs=tuple(map(_here, options.inputs)))
    if options.format is not None:
        return _for_server(options)
    given = {"split": options.split, "fold": options.fold, "zip": options.archive, "figure": options.figure}
    meant = [f"--{name}" for name, value in given.items() if value is not None]
    if meant:
        raise explain(" and ".join(meant), found="no --format", needed="one", fix="Add --format, or leave them out.")
    if options.is_of_a_clip():
        return _clip(options)
    if options.engine is None and (options.address is not None or options.workers is not None):
        raise explain("--address and --workers", found="no --engine", needed="one", fix="Add --engine ray.")
    shard = options.taken_shard()
    if shard is not None or options.engine is not None or options.is_of_many():
        return _part(options, shard)
    from ducseg.inference.sources import check_inputs

    check_inputs(options.inputs, leave_out=options.folder)  # a wrong path is said before torch and a network are read
    from ducseg.inference.opening import mask_suffix_of
    from ducseg.inference.predict_files import predict_files
    from ducseg.inference.writers import USUAL_KINDS, needs_probabilities

    kinds, tiling, outlines = options.kinds or USUAL_KINDS, options.tiling(), options.outlines()
    labeller = options.labeller(probabilities=tiling is not None or needs_probabilities(kinds))
    done = predict_files(
        labeller, options.inputs, options.folder, kinds=kinds, batch_size=options.batch_size, tiling=tiling,
        mask_suffix=mask_suffix_of(labeller.record), outlines=outlines,
    )  # fmt: skip
    return report(done, options.out, "predicted")


def _here(given: str) -> str:
    """A file:// URL as the path that it is."""
    from ducseg.inference.places import local_path

    return str(local_path(given)) if given.startswith("file://") else given


def _part(options: Options, shard: "Shard | None") -> int:
    """A shard of the pictures, or all of them, here or on a cluster."""
    from ducseg.inference.many import predict_shard
    from ducseg.inference.opening import mask_suffix_of, recorded
    from ducseg.inference.ray_engine import predict_ray
    from ducseg.inference.shards import Shard
    from ducseg.inference.writers import USUAL_KINDS, needs_probabilities

    kinds, tiling, part = options.kinds or USUAL_KINDS, options.tiling(), shard or Shard(0, 1)
    outlines = options.outlines()
    opened = partial(
        options.on_device_of(part).labeller, probabilities=tiling is not None or needs_probabilities(kinds)
    )
    settings, mask_suffix = options.settings(kinds), mask_suffix_of(recorded(options.checkpoint)[1])
    if options.engine is None:
        done = predict_shard(
            opened, options.inputs, options.out, kinds=kinds, shard=part, settings=settings, tiling=tiling,
            batch_size=options.batch_size, per_tar=options.tar, mask_suffix=mask_suffix, resume=shard is not None,
            outlines=outlines,
        )  # fmt: skip
    else:
        from ducseg.devices import pick_device

        done = predict_ray(
            opened, options.inputs, options.out, kinds=kinds, shard=part, settings=settings, tiling=tiling,
            batch_size=options.batch_size, per_tar=options.tar, mask_suffix=mask_suffix, resume=shard is not None,
            outlines=outlines, address=options.address, workers=options.workers,
            on_gpu=pick_device(options.device).type == "cuda",
        )  # fmt: skip
    if part.count > 1:
        print(f"shard {part}: {done.units} of {done.total} pictures{' and tars' * options.is_of_many()}")
    if done.skipped:
        print(f"{done.skipped} pictures were done and whole: left as they are")
    if done.changed:
        print(f"{done.changed} results were made with other settings, of another checkpoint or input: made anew")
    if done.damaged:
        print(f"{done.damaged} results were gone or not as they were written: made anew")
    return report(done.report, options.out, "predicted")


def _clip(options: Options) -> int:
    """The frames of one clip, or of pictures in the order of their numbers."""
    from ducseg.inference.smoothing import Smoothed, check_share
    from ducseg.inference.video import open_clip, predict_clip
    from ducseg.inference.writers import needs_probabilities

    foreign = options.given("batch_size", "tile", "overlap", "half", *_OF_MANY)
    if foreign:
        needed = "none of shards, batches, windows and clusters"
        raise explain("a clip", found=" and ".join(foreign), needed=needed, fix="A clip is done frame by frame, whole.")
    share, outlines = check_share(options.smooth), options.outlines()
    clip = open_clip(options.inputs, options.folder, fps=options.fps, frames=options.frames, kinds=options.kinds)
    labeller = options.labeller(probabilities=share > 0 or needs_probabilities(options.kinds))
    done = predict_clip(Smoothed(labeller, share) if share else labeller, clip, outlines=outlines)
    rate = f"in {done.seconds:.1f} s, {done.rate:.1f} frames a second"
    print(f"{done.frames} frames predicted into {options.out} {rate}{', stopped from the keyboard' * done.stopped}")
    if done.fault is not None:
        print(f"{clip.frames.name} broke off after {done.frames} frames: {done.fault}")
    return 1 if done.fault is not None else 0


def _for_server(options: Options) -> int:
    foreign = options.given(
        "kinds", "simplify", "least_area", "batch_size", "tile", "overlap", "half", *_OF_MANY, *_OF_CLIPS
    )
    if options.format != "kitti-road":
        foreign += options.given("fold", "figure")
    if len(options.inputs) != 1 or foreign:
        raise explain(
            f"--format {options.format}",
            found=" and ".join(foreign) or f"{len(options.inputs)} inputs",
            needed="the data set's folder; not --kinds, --batch-size, --tile, --overlap, nor what is for shards, "
            "clusters and clips; --fold and --figure for kitti-road alone",
            fix="For example: ducseg predict RUN DATASET --out DIR --format cityscapes --split val.",
        )
    root = Path(options.inputs[0])
    if not root.exists():
        from ducseg.data.paired import no_such_data

        raise no_such_data(options.format or "", root, missing="nothing there", layout="the data set's folder")
    from ducseg.inference.submit import submit

    files = submit(
        options.format or "", options.labeller(), root, options.folder,
        split=options.split or "test", fold=options.fold, archive=options.archive, figure=options.figure,
    )  # fmt: skip
    packed = f", packed as {options.archive}" if options.archive is not None else ""
    print(f"{len(files)} results in {options.out}{packed}")
    return 0
