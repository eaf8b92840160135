"""Where the time goes: every stage once, the encoder's and the head's, also where the head runs the encoder."""

import numpy as np
import pytest

from ducseg.inference.stages import stage_times
from ducseg.models import build


@pytest.mark.parametrize(("encoder", "head"), [("resnet18", "duc"), ("resnet18", "deeplabv2"), ("vgg16", "dilation10")])
def test_every_stage_is_there_once(encoder: str, head: str) -> None:
    network = build(encoder, head, 3, width=2).eval()
    found = stage_times(network, np.zeros((1, 40, 48, 3), np.uint8), rounds=1)
    wanted = ["input", "stem", "res2", "res3", "res4", "res5", "head", "labels"]
    if encoder == "vgg16":  # a pooling that lost its stride gives what it is given
        wanted.remove("res4")
    assert list(found) == wanted
    assert min(found.values()) >= 0
