"""From the paper's words to a network: one function, every conflict reported at once."""

import colorsys
from typing import Any

from ducseg.classes import ClassSet, Colour
from ducseg.errors import UserError, explain
from ducseg.models.architecture import Architecture, make_encoder
from ducseg.models.dilation import Dilation
from ducseg.models.heads import HEADS
from ducseg.models.preprocessing import Preprocessing
from ducseg.models.segmenter import Segmenter, check_kind

__all__ = ["build", "build_architecture", "generic_classes"]


def build(
    encoder: str = "resnet101",
    head: str = "duc",
    num_classes: int = 19,
    output_stride: int | None = None,
    cell: int = 1,
    aspp: int | None = None,
    dilation: Dilation | None = None,
    stem: str = "7x7",
    *,
    stride_in: str = "3x3",
    pool_padding: bool = True,
    batch_norm_eps: float = 1e-5,
    width: int = 64,
    num_channels: int = 3,
    classes: ClassSet | None = None,
    preprocessing: Preprocessing | None = None,
) -> Segmenter:
    """Build a segmenter with random weights.

    Args:
        encoder: resnet18, resnet34, resnet50, resnet101, resnet152, vgg16, vgg16_bn, mobilenet_v2,
            efficientnet_lite0, _lite1, _lite2, or "timm:NAME" for a convolutional network of timm
            (`ducseg.models.timm_encoder` says which can be dilated, and where their blocks are).
        head: "duc"; "bilinear", the baseline; "deconv", one transposed convolution by d; "deconv2", by 2, then d/2;
            "pyramid", dense upsampling joined with the encoder's finer maps (`ducseg.models.pyramid`), for thin
            objects: with output_stride=32, dilation="none", aspp=0; or a network that the paper compares with
            (`ducseg.models.comparisons`, by the names of `COMPARISONS`): fcn8s, dilation10, deeplabv2, ...
        num_classes: L.
        output_stride: d: 32, 16, 8 (the paper) or 4. None: 8, for a comparison network its own.
        cell: side in pixels of the block that one of DUC's predictions stands for; divides d. For a deconvolution: of
            the DUC that it has about as many parameters as. 1 for the bilinear head and the pyramid.
        aspp: number of summed ASPP paths (4 or 6 in the paper); 0: one plain 3x3 convolution. 0 for the pyramid. None:
            4, for a comparison network its own.
        dilation: an HDC schedule (none, dilated, conv, rf, bigger, released; see `ducseg.models.dilation` for what it
            means at each output stride) or explicit rates, one a block: (res4, res5) or (res3, res4, res5),
            also as text, "1,2,5,9,1,2/5,9,17". None: "bigger", for a comparison network its own.
        stem: "7x7", or "3x3" for the paper's better network. MobileNetV2 has its own and takes the default only.
        stride_in: which convolution of a bottleneck has the stride: "3x3" (torchvision) or "1x1" (released network).
        pool_padding: whether the max-pooling is padded (torchvision) or not (released network).
        batch_norm_eps: 1e-5 (torchvision) or 1e-6 (released network).
        width: channels of VGG's conv1, or of the ResNet's stem and of res2's 3x3 convolutions; smaller ones are for
            tests and toys.
        num_channels: C of the images, 1 to 16.
        classes: names and colours; None: class0, class1, ... in distinct colours.
        preprocessing: how pictures become its input, of C channels; None: as the encoder's ImageNet weights expect
            them, and where these are not three, with the three's average for each channel of 8 bits.

    Raises:
        UserError: classes or preprocessing of another type; one message with every conflict among the arguments; or
            timm has no such network, or it cannot be dilated (with the reasons).
    """
    left_out: dict[str, Any] = {"output_stride": 8, "aspp": 4, "dilation": "bigger"}
    left_out.update(HEADS[head].own if isinstance(head, str) and head in HEADS else {})
    given = {"output_stride": output_stride, "aspp": aspp, "dilation": dilation}
    chosen = Architecture(
        encoder=encoder,
        head=head,
        num_classes=num_classes,
        cell=cell,
        stem=stem,
        stride_in=stride_in,
        pool_padding=pool_padding,
        batch_norm_eps=batch_norm_eps,
        width=width,
        num_channels=num_channels,
        **left_out | {name: value for name, value in given.items() if value is not None},
    )
    return build_architecture(chosen, classes=classes, preprocessing=preprocessing)


def build_architecture(
    chosen: Architecture, *, classes: ClassSet | None = None, preprocessing: Preprocessing | None = None
) -> Segmenter:
    """As `build`, from the arguments as one value."""
    if classes is not None:
        check_kind("classes", classes, ClassSet)
    if preprocessing is not None:
        check_kind("preprocessing", preprocessing, Preprocessing)
    conflicts = chosen.conflicts(classes)
    if conflicts:
        raise UserError("this network cannot be built: " + "; ".join(conflicts))
    if preprocessing is not None and preprocessing.num_channels != chosen.num_channels:
        raise explain(
            "preprocessing",
            found=f"{preprocessing.num_channels} values",
            needed=f"num_channels={chosen.num_channels} of them",
            fix="Pass num_channels as there are channels.",
        )
    encoder, expected = make_encoder(chosen)
    if chosen.num_channels != 3:
        mean, std = ((sum(values) / 3,) * chosen.num_channels for values in (expected.mean, expected.std))
        expected = Preprocessing(mean=mean, std=std)
    return Segmenter(
        encoder,
        HEADS[chosen.head].make(encoder, chosen.num_classes, chosen.cell, chosen.aspp),
        classes=classes or generic_classes(chosen.num_classes),
        preprocessing=preprocessing or expected,
        architecture=chosen,
    )


def generic_classes(num_classes: int) -> ClassSet:
    """class0, class1, ... with colours spread over the hue circle in three shades."""
    names = tuple(f"class{index}" for index in range(num_classes))
    return ClassSet(names, tuple(_colour(index, num_classes) for index in range(num_classes)))


def _colour(index: int, count: int) -> Colour:
    value = (1.0, 0.75, 0.5)[index % 3]
    r, g, b = colorsys.hsv_to_rgb(index / count, 0.85, value)
    return round(255 * r), round(255 * g), round(255 * b)
