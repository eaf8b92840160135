"""`ducseg eval, predict, crf, crf-tune, import-weights`: what one does with a network. Parses, calls one function."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from ducseg.errors import explain

__all__ = ["crf", "crf_tune", "evaluate", "import_weights", "predict"]

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
File = Annotated[Path, tyro.conf.arg(metavar="FILE")]


def evaluate(
    checkpoint: tyro.conf.Positional[Folder],
    /,
    *,
    split: str | None = None,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    data_root: Folder | None = None,
    device: str = "auto",
    crf: tuple[File, ...] | None = None,
    json: File | None = None,
    panels: File | None = None,
) -> int:
    """Score a checkpoint on its data set: per-class IoU, mean IoU, pixel accuracy.

    Args:
        checkpoint: a checkpoint or run folder (then its best checkpoint).
        split: of the data set; default: the one the run validated on.
        scales: the probabilities are averaged over these sizes.
        flip: average over the mirrored picture too.
        data_root: where the data set lies now; default: where it lay in training.
        device: auto, cpu, cuda or cuda:N.
        crf: refine with the dense CRF: with the paper's settings, or those of a JSON file of crf-tune.
        json: also write the scores there.
        panels: also draw picture, truth and prediction of four pictures there (PNG).
    """
    from ducseg.cli.commands import evaluate_checkpoint

    return evaluate_checkpoint(
        checkpoint,
        split=split,
        scales=scales,
        flip=flip,
        data_root=data_root,
        device=device,
        crf=crf,
        json_path=json,
        panels_path=panels,
    )


def predict(
    checkpoint: tyro.conf.Positional[Folder],
    inputs: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    out: Folder,
    kinds: tuple[Literal["labels", "color", "overlay", "probabilities"], ...] = (),
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    device: str = "auto",
    crf: tuple[File, ...] | None = None,
    format: Literal["cityscapes", "kitti-road", "voc2012"] | None = None,
    split: str | None = None,
    fold: int | None = None,
    archive: Annotated[Path | None, tyro.conf.arg(name="zip", metavar="FILE")] = None,
    figure: File | None = None,
) -> int:
    """Predict pictures: label PNGs, colour maps, overlays with a legend. Exits with 1 if a file could not be read.

    With --format, write what a benchmark's server takes, from a data set's folder.

    Args:
        checkpoint: a checkpoint or run folder (then its best checkpoint), or an id on the Hugging Face Hub.
        inputs: files, folders (searched recursively) and globs, pictures of any size; with --format, the data set's
            folder.
        out: folder for the results; sub-folders of the inputs are kept.
        kinds: what to write (default: labels color overlay); probabilities are .npy files, float16 (classes, height,
            width).
        scales: the probabilities are averaged over these sizes.
        flip: average over the mirrored picture too.
        device: auto, cpu, cuda or cuda:N.
        crf: refine with the dense CRF: with the paper's settings, or those of a JSON file of crf-tune.
        format: whose names, values and sizes to write.
        split: with --format: default test.
        fold: with --format kitti-road and --split val: which fold; default: the one that the run held out.
        archive: with --format: also pack the results there (.zip, VOC .tar.gz).
        figure: with --format kitti-road: also draw up to six frames with the road in red there (PNG).
    """
    if format is not None:
        from ducseg.cli.benchmark_commands import predict_for_server

        return predict_for_server(
            format, str(checkpoint), inputs, out, kinds=kinds, split=split, fold=fold, archive=archive, figure=figure,
            scales=scales, flip=flip, device=device, crf=crf,
        )  # fmt: skip
    given = {"split": split, "fold": fold, "zip": archive, "figure": figure}
    meant = [f"--{name}" for name, value in given.items() if value is not None]
    if meant:
        raise explain(" and ".join(meant), found="no --format", needed="one", fix="Add --format, or leave them out.")
    from ducseg.cli.commands import predict_inputs

    kinds = kinds or ("labels", "color", "overlay")
    return predict_inputs(str(checkpoint), inputs, out, kinds=kinds, scales=scales, flip=flip, device=device, crf=crf)


def crf(
    probabilities: tyro.conf.Positional[Folder],
    inputs: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    out: Folder,
    settings: tuple[File, ...] = (),
    kinds: tuple[Literal["labels", "color", "overlay", "probabilities"], ...] = ("labels",),
    classes: str | None = None,
) -> int:
    """Refine pictures with the dense CRF: a checkpoint's probabilities, or saved ones. Exits with 1 if one failed.

    Args:
        probabilities: a checkpoint or run folder, or a folder of NAME.npy or NAME_probabilities.npy, any floating type
            (classes, height, width), as `predict --kinds probabilities` writes them.
        inputs: files, folders (searched recursively) and globs: the pictures.
        out: folder for the results; sub-folders of the inputs are kept.
        settings: a JSON file of crf-tune; default: the paper's.
        kinds: what to write.
        classes: for colours, where the probabilities are saved ones: camvid, cityscapes, kitti-road, voc2012 or a
            classes.json.
    """
    from ducseg.cli.crf_commands import refine_inputs

    return refine_inputs(probabilities, inputs, out, settings=settings, kinds=kinds, classes=classes)


def crf_tune(
    checkpoint: tyro.conf.Positional[Folder],
    /,
    *,
    out: Folder,
    sigma_alpha: tuple[float, ...] = (5.0, 15.0, 40.0),
    sigma_beta: tuple[float, ...] = (3.0, 8.0, 20.0),
    w1: tuple[float, ...] = (1.0, 3.0, 6.0),
    sigma_gamma: tuple[float, ...] = (1.0,),
    w2: tuple[float, ...] = (1.0, 3.0),
    iterations: tuple[int, ...] = (1, 5, 10),
    metric: Literal["mean_iou", "mean_boundary_iou"] = "mean_iou",
    split: str | None = None,
    pictures: int | None = None,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    data_root: Folder | None = None,
    device: str = "auto",
) -> int:
    """Find the dense CRF's settings by grid search on a validation split: table, heat-maps, best.json for --crf.

    Args:
        checkpoint: a checkpoint or run folder (then its best checkpoint).
        out: folder for probabilities, counts and results; the same command goes on where it was stopped, a larger
            grid computes what is new.
        sigma_alpha: widths of the bilateral term in pixels.
        sigma_beta: widths of the bilateral term in grey levels.
        w1: weights of the bilateral term.
        sigma_gamma: widths of the Gaussian term in pixels.
        w2: weights of the Gaussian term.
        iterations: numbers of mean-field iterations.
        metric: which score decides.
        split: of the data set; default: the one the run validated on.
        pictures: so many, spread evenly over the split; default: all.
        scales: the probabilities are averaged over these sizes.
        flip: average over the mirrored picture too.
        data_root: where the data set lies now; default: where it lay in training.
        device: auto, cpu, cuda or cuda:N, for the network; the CRF runs on the CPU's cores.
    """
    from ducseg.cli.crf_commands import tune_checkpoint
    from ducseg.crf.tune import Grid

    grid = Grid(
        sigma_alpha=sigma_alpha, sigma_beta=sigma_beta, w1=w1, sigma_gamma=sigma_gamma, w2=w2, iterations=iterations
    )
    return tune_checkpoint(
        checkpoint, out, grid, metric=metric, split=split, pictures=pictures, scales=scales, flip=flip,
        data_root=data_root, device=device,
    )  # fmt: skip


def import_weights(
    source: tyro.conf.Positional[Literal["tusimple", "onnx-zoo"]],
    file: tyro.conf.Positional[File],
    /,
    *,
    out: Folder,
) -> int:
    """Turn the authors' released weights into a checkpoint: MXNet's .params file, or the ONNX zoo's export of it.

    Args:
        source: which kind of file.
        file: the file, such as ResNet_DUC_HDC_CityScapes-0000.params.
        out: folder to make.
    """
    from ducseg.weights.tusimple import import_file

    print(import_file(source, file, out))
    return 0
