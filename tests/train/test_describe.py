import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from ducseg.train.config import Config
from ducseg.train.loop import train


@pytest.mark.parametrize(("head", "words"), [("deconv2", ["in the head (duc: "]), ("duc", ["M of them in the head,"])])
def test_a_run_says_what_it_trains_and_deconvolutions_stand_beside_duc(
    tiny_config: Config, tmp_path: Path, head: str, words: list[str]
) -> None:
    model = dataclasses.replace(tiny_config.model, head=head, cell=1, width=8)
    optimizer = dataclasses.replace(tiny_config.optimizer, epochs=1)
    printed = io.StringIO()
    config = dataclasses.replace(tiny_config, model=model, optimizer=optimizer)
    train(config, tmp_path / "run", console=Console(file=printed, width=200))
    for word in [*words, "8 training and 3 validation pictures", "2 steps on 1 x cpu", "weights: fresh", "mean IoU"]:
        assert word in printed.getvalue()


@pytest.mark.parametrize("bf16", [False, True])
def test_what_is_scored_in_bf16_is_said_to_be(tiny_config: Config, tmp_path: Path, bf16: bool) -> None:
    model = dataclasses.replace(tiny_config.model, width=8)
    optimizer = dataclasses.replace(tiny_config.optimizer, epochs=1)
    settings = dataclasses.replace(tiny_config.run, eval_bf16=bf16)
    printed = io.StringIO()
    config = dataclasses.replace(tiny_config, model=model, optimizer=optimizer, run=settings)
    train(config, tmp_path / "run", console=Console(file=printed, width=200))
    assert ("1 x cpu, evaluated in bf16; weights" in printed.getvalue()) == bf16
    assert f"step 2 on val{', in bf16' if bf16 else ''}:\n" in printed.getvalue()
