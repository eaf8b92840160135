import pytest
import torch

from ducseg.classes import ClassSet
from ducseg.models import Segmenter, build
from ducseg.weights.other_classes import take_all_but_other_classes

OLD, NEW = ("ground", "crack", "wire"), ("wire", "pole", "ground", "vessel", "crack")


def network(head: str, names: tuple[str, ...]) -> Segmenter:
    classes = ClassSet(names, tuple((number, 0, 0) for number in range(len(names))))
    stride, dilation = (32, "none") if head == "pyramid" else (8, "rf")
    cell = 2 if head == "duc" else 1
    made = build("resnet18", head, len(names), stride, cell, 0, dilation, width=8, classes=classes)
    for parameter in made.head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval().double()


@pytest.mark.parametrize("head", ["duc", "bilinear", "pyramid"])
@pytest.mark.parametrize(("names", "lacking"), [(NEW, ["pole", "vessel"]), (("wire", "ground"), []), (OLD, [])])
def test_classes_go_by_their_names_and_all_else_stays(head: str, names: tuple[str, ...], lacking: list[str]) -> None:
    source, target, picture = network(head, OLD), network(head, names), torch.randn(1, 3, 35, 50, dtype=torch.float64)
    own = {key: values.clone() for key, values in target.head.state_dict().items()}
    assert take_all_but_other_classes(target, source) == lacking
    with torch.no_grad():
        had, has = source.folded(picture), target.folded(picture)
    for name in set(names) & set(OLD):
        torch.testing.assert_close(has[:, names.index(name)], had[:, OLD.index(name)])
    last = next(key for key in reversed(own) if key.endswith("bias"))
    for name in lacking:
        was, now = (values[last].unflatten(0, (len(names), -1)) for values in (own, target.head.state_dict()))
        assert torch.equal(now[names.index(name)], was[names.index(name)])


def test_a_network_of_one_class_and_none_in_common() -> None:
    source, target = network("duc", ("crack",)), network("duc", ("sky", "road"))
    assert take_all_but_other_classes(target, source) == ["sky", "road"]
    for key, values in source.encoder.state_dict().items():
        assert torch.equal(values, target.encoder.state_dict()[key])


def test_another_head_does_not_fit() -> None:
    with pytest.raises(RuntimeError, match="head"):
        take_all_but_other_classes(network("pyramid", NEW), network("duc", OLD))
