import math

import pytest
import torch
import torch.nn.functional as F

from ducseg.errors import UserError
from ducseg.ops.duc import unfold
from ducseg.train.config import LossConfig
from ducseg.train.loss import FoldedLoss, fold_targets, pad_labels

GENERATOR = torch.Generator().manual_seed(0)


NAMES = ["road", "car", "pole", "sign", "sky"]


def make_case(num_classes: int = 5, factor: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    scores = torch.randn(2, num_classes, factor * factor, 3, 4, generator=GENERATOR)
    labels = torch.randint(0, num_classes, (2, 3 * factor, 4 * factor), generator=GENERATOR).to(torch.uint8)
    labels[:, :5, :3] = 255
    return scores, labels


def test_folded_loss_is_the_loss_of_the_unfolded_map() -> None:
    scores, labels = make_case()
    total, count = FoldedLoss(LossConfig(), NAMES)(scores, fold_targets(labels, output_stride=4, cell=1, factor=4))
    expected = F.cross_entropy(unfold(scores), labels.long(), ignore_index=255)
    torch.testing.assert_close(total / count, expected)
    assert count == (labels != 255).sum()


def test_targets_are_padded_with_the_ignored_label() -> None:
    targets = fold_targets(torch.zeros(1, 9, 17, dtype=torch.uint8), output_stride=8, cell=2, factor=4)
    assert targets.shape == (1, 16, 2, 3)
    assert (targets == 255).sum() == 16 * 6 - 5 * 9  # rows 0,2,..,8 and columns 0,2,..,16 are inside


def test_class_weights_give_torchs_weighted_mean() -> None:
    scores, labels = make_case()
    weights = (1.0, 0.5, 2.0, 3.0, 0.1)
    total, normaliser = FoldedLoss(LossConfig(class_weights=weights), NAMES)(
        scores, fold_targets(labels, output_stride=4, cell=1, factor=4)
    )
    expected = F.cross_entropy(unfold(scores), labels.long(), torch.tensor(weights), ignore_index=255)
    torch.testing.assert_close(total / normaliser, expected)


def test_wrong_number_of_class_weights_is_refused() -> None:
    with pytest.raises(UserError, match="3 weights"):
        FoldedLoss(LossConfig(class_weights=(1.0, 1.0, 1.0)), NAMES)


def test_ohem_keeps_the_pixels_at_or_above_the_threshold_loss() -> None:
    scores, labels = make_case()
    targets = fold_targets(labels, output_stride=4, cell=1, factor=4)
    losses = F.cross_entropy(scores, targets.long(), ignore_index=255, reduction="none")[targets != 255]
    hard = losses[losses >= -math.log(0.3)]
    total, count = FoldedLoss(LossConfig(ohem_threshold=0.3, ohem_min_fraction=0.01), NAMES)(scores, targets)
    assert count == len(hard)
    assert 0 < len(hard) < len(losses)
    torch.testing.assert_close(total, hard.sum())


def test_ohem_keeps_the_hardest_share_where_few_are_hard() -> None:
    scores, labels = make_case()
    targets = fold_targets(labels, output_stride=4, cell=1, factor=4)
    losses = F.cross_entropy(scores, targets.long(), ignore_index=255, reduction="none")[targets != 255]
    total, count = FoldedLoss(LossConfig(ohem_threshold=1e-9, ohem_min_fraction=0.25), NAMES)(scores, targets)
    assert count == len(losses) // 4
    torch.testing.assert_close(total, losses.sort(descending=True).values[: len(losses) // 4].sum())


@pytest.mark.parametrize("valid", [0, 1, 7, 15, 16])
def test_ohem_keeps_one_pixel_of_few(valid: int) -> None:
    scores, labels = make_case()
    labels = torch.full_like(labels, 255)
    labels.view(-1)[:valid] = 1
    targets = fold_targets(labels, output_stride=4, cell=1, factor=4)
    total, count = FoldedLoss(LossConfig(ohem_threshold=1e-9), NAMES)(scores, targets)
    assert count == min(valid, 1)
    assert (total > 0) == (valid > 0)


def test_ohem_chooses_among_pixels_with_a_weight() -> None:
    scores, labels = make_case()
    targets = fold_targets(labels, output_stride=4, cell=1, factor=4)
    config = LossConfig(ohem_threshold=1e-9, class_weights=(0.0, 0.0, 0.0, 0.0, 3.0))
    total, normaliser = FoldedLoss(config, NAMES)(scores, targets)
    losses = F.cross_entropy(scores, targets.long(), ignore_index=255, reduction="none")[targets == 4]
    kept = losses.sort(descending=True).values[: len(losses) // 16]
    assert normaliser == 3 * len(kept)
    torch.testing.assert_close(total, 3 * kept.sum())


@pytest.mark.parametrize(
    ("config", "expected"), [(LossConfig(), [5, 5]), (LossConfig(class_weights=(0, 1, 2)), [5, 5])]
)
def test_counting_tells_pixels_and_those_to_learn_from(config: LossConfig, expected: list[int]) -> None:
    labels = torch.tensor([[[0, 1, 2], [255, 0, 2]]], dtype=torch.uint8)
    assert FoldedLoss(config, NAMES[:3]).count(labels).tolist() == expected


@pytest.mark.parametrize("of", ["cross_entropy", "ohem_threshold", "focal", "dice", "tversky", "lovasz", "cldice"])
def test_no_pictures_cost_nothing_and_autocast_changes_nothing(of: str) -> None:
    loss = FoldedLoss(LossConfig(**{of: 0.7}), NAMES)  # type: ignore[arg-type]
    scores, labels = make_case()
    targets = fold_targets(labels, output_stride=4, cell=1, factor=4)
    none = scores[:0].requires_grad_()
    total, count = loss(none, targets[:0])
    total.backward()
    assert total == count == 0
    expected = loss(scores, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(scores, targets) == expected


def test_labels_of_true_and_false_are_padded_with_the_ignored_label() -> None:
    labels = torch.tensor([[[True, False, True]]])
    assert pad_labels(labels, 2).tolist() == [[[1, 0, 1, 255], [255] * 4]]
