"""A server of a small network for all tests of a file."""

from collections.abc import Iterator

import pytest
from small_server import Running, serving, small_predictor

from ducseg.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The small one."""
    return small_predictor()


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[Running]:
    """With the limits that it has by itself."""
    with serving(predictor) as running:
        yield running
