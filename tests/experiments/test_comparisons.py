"""The comparison networks' experiments: they build, each stage starts from the one before, rates are as published."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ducseg.classes import CITYSCAPES, VOC2012
from ducseg.experiments import EXPERIMENTS, comparisons, structured
from ducseg.models import COMPARISONS, Segmenter, build
from ducseg.train.config import Config
from ducseg.train.optimizer import parameter_groups

ALL: list[Callable[[], Config]] = [
    getattr(module, name) for module in (comparisons, structured) for name in module.__all__
]


def network(config: Config) -> Segmenter:
    model = config.model
    classes = VOC2012 if config.data.dataset == "voc2012" else CITYSCAPES
    with torch.device("meta"):
        return build(
            model.encoder, model.head, len(classes), output_stride=model.output_stride, aspp=model.aspp,
            dilation=model.dilation, width=1,
        )  # fmt: skip


@pytest.mark.parametrize("experiment", ALL, ids=lambda function: function.__name__)
def test_it_builds_and_says_how_to_run_it(experiment: Callable[[], Config]) -> None:
    config, text = experiment(), experiment.__doc__ or ""
    replace(config, data=replace(config.data, root="somewhere")).check()
    assert EXPERIMENTS[config.name] is experiment and f"ducseg train {config.name} --data.root DIR" in text
    assert config.model.head in COMPARISONS
    found = network(config)
    assert parameter_groups(found, config.optimizer)
    source = config.model.weights
    if source != "imagenet":
        assert source is not None and f"--model.weights {source}" in text
        before = EXPERIMENTS[source.split("/")[1]]()
        assert network(before).state_dict().keys() <= found.state_dict().keys()


def test_rates_of_the_fcn_stages() -> None:
    rates = [EXPERIMENTS[f"voc2012-fcn{stride}s"]().optimizer.learning_rate for stride in (32, 16, 8)]
    assert rates == pytest.approx([187_500e-10, 187_500e-12, 187_500e-14])


def test_deeplabs_biases_learn_twenty_times_as_fast() -> None:
    config = comparisons.voc2012_deeplabv2()
    found = network(config)
    rates = {
        id(parameter): group["rate_factor"]
        for group in parameter_groups(found, config.optimizer)
        for parameter in group["params"]  # type: ignore[attr-defined]
    }
    branch = found.head.branches[2]
    assert rates[id(branch.weight)] == 10 and rates[id(branch.bias)] == 20
    assert {rates[id(parameter)] for parameter in found.encoder.parameters()} == {1.0}


def test_the_context_stage_trains_the_module_alone() -> None:
    config = comparisons.cityscapes_dilation_context()
    found = network(config)
    trained = {id(parameter) for group in parameter_groups(found, config.optimizer) for parameter in group["params"]}  # type: ignore[attr-defined]
    assert trained == {id(parameter) for parameter in found.head.context.parameters()}
