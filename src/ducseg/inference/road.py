"""How sure a network is of road, pixel by pixel, and the counts of KITTI road's scores.

The confidence of a pixel is the probability of the class "road" times 255, rounded, so that scoring what was written
gives what evaluating the labeller gave. Legend: L classes, H, W pixels of the picture.
"""

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.birds_eye import BirdsEye
from ducseg.data.layouts.kitti_road import KittiRoad, result_name
from ducseg.data.sample import Sample
from ducseg.errors import explain, listed
from ducseg.inference.labeller import Labeller
from ducseg.inference.read_ahead import read_ahead
from ducseg.metrics.kitti_road import RoadCounts
from ducseg.metrics.kitti_road_files import View

__all__ = ["RoadEvaluation", "check_calibration", "evaluate_kitti_road", "road_class", "road_confidence"]

_MOST_NAMED = 5


def road_class(classes: ClassSet) -> int:
    """The index of the class "road"; `UserError` where there is none."""
    if "road" not in classes.names:
        raise explain(
            "the model's classes",
            found=", ".join(classes.names[:_MOST_NAMED]),
            needed="one with the name road",
            fix="Take a model trained on KITTI road (ducseg train kitti-road-duc) or on Cityscapes.",
        )
    return classes.names.index("road")


def road_confidence(labeller: Labeller, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How sure a labeller is of road, uint8 (H, W), of a picture RGB uint8 (H, W, 3).

    Any network with a class "road" will do, one trained on Cityscapes too.

    Raises:
        UserError: no class "road"; as `Labeller.probabilities`.
    """
    road = road_class(labeller.classes)
    return _confidence(labeller.probabilities(image)[road])


def _confidence(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(probability * np.float32(255)), np.uint8)


class RoadEvaluation:
    """Counts of the frames of a labelled split, for `ducseg.metrics.kitti_road.road_scores`.

    Args:
        classes: of the network.
        dataset: whose frames are given by index.
        view: "bev" counts in the bird's-eye view, as the benchmark.

    Attributes:
        counts: by category, "um_road", ...

    Raises:
        UserError: no class "road"; "bev" without a calibration file for each frame.
    """

    def __init__(self, classes: ClassSet, dataset: KittiRoad, *, view: View = "bev") -> None:
        self.dataset, self.view, self.counts = dataset, view, dict[str, RoadCounts]()
        self._road = road_class(classes)
        if view == "bev":
            check_calibration(dataset)

    def update(self, index: int, sample: Sample, probabilities: NDArray[np.float32]) -> None:
        """Count frame `index`: its sample and the probabilities (L, H, W) of its picture.

        Raises:
            UserError: no ground truth; a calibration file that does not read.
        """
        label, confidence = sample.label, _confidence(probabilities[self._road])
        if label is None:
            raise explain(
                f"frame {sample.id}", found="no ground truth", needed="one to score", fix="Take another split."
            )
        if self.view == "bev":
            view = BirdsEye.read(self.dataset.calibration_paths[index])
            # 0 means ignored outside the picture, but label 0 is not road: shift by one on the way
            label = view.from_image(label + np.uint8(1)) - np.uint8(1)
            confidence = view.from_image(confidence)
        category = result_name(sample.id, self.dataset.ground_truth).rpartition("_")[0]
        self.counts.setdefault(category, RoadCounts()).update(label, confidence)


def evaluate_kitti_road(labeller: Labeller, dataset: KittiRoad, *, view: View = "bev") -> dict[str, RoadCounts]:
    """Counts by category ("um_road", ...) of a labelled split, equal to those of written results.

    (`ducseg.inference.evaluate.evaluate` counts the confusion matrix in the same pass.)

    Raises:
        UserError: as `RoadEvaluation`; a split without labels.
    """
    road = RoadEvaluation(labeller.classes, dataset, view=view)
    for index, read in read_ahead(dataset.__getitem__, range(len(dataset))):
        sample = read()
        road.update(index, sample, labeller.probabilities(sample.image))
    return road.counts


def check_calibration(dataset: KittiRoad) -> None:
    """Raise `UserError` where a frame has no calibration file."""
    missing = [path for path in dataset.calibration_paths if not path.is_file()]
    if missing:
        raise explain(
            f"calibration in {missing[0].parent}",
            found=f"{len(missing)} files missing ({listed([path.name for path in missing])})",
            needed="one for each frame, for the bird's-eye view",
            fix="Unpack the calib folder of data_road.zip too.",
        )
