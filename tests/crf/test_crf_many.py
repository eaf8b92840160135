"""Many settings at once give what one setting at a time gives."""

import numpy as np
import pytest

from ducseg.crf import CrfParams, dense_crf
from ducseg.crf.dense_crf import marginals_under_each
from ducseg.errors import UserError


@pytest.mark.slow
def test_each_setting_and_iteration_equals_dense_crf() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)
    probabilities = rng.dirichlet(np.ones(5), (13, 17)).transpose(2, 0, 1).astype(np.float16)
    settings = [
        CrfParams(sigma_alpha=alpha, sigma_beta=beta, w1=w1, sigma_gamma=gamma, w2=1)
        for alpha, beta, w1, gamma in ((4, 30, 2, 1), (8, 20, 1, 2), (4, 30, 1, 1), (4, 30, 1, 2), (4, 20, 2, 1))
    ]
    found = list(marginals_under_each(probabilities, image, settings, (0, 1, 3), threads=1))
    assert {(params, count) for params, count, _ in found} == {(p, n) for p in settings for n in (0, 1, 3)}
    for params, count, marginals in found:
        alone = dense_crf(probabilities, image, params, count)
        np.testing.assert_allclose(marginals, alone, atol=1e-6)
    assert len({marginals.tobytes() for _, _, marginals in found}) == 1 + 2 * len(settings)


def test_bad_probabilities_are_refused_as_by_dense_crf() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(UserError, match="probabilities"):
        list(marginals_under_each(np.full((2, 4, 5), 0.7, np.float32), image, [CrfParams()], [1]))
