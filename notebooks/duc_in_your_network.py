# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # DUC in your own network
#
# A small encoder of our own, with three strides, and two ends for it: bilinear enlargement of its scores, and
# dense upsampling convolution.
# Everything else is the same. The pictures are drawn: lines of two pixels on noise. Takes about half a minute on
# one core.

# %%
import torch
from torch import nn
from torch.nn import functional as F

from ducseg.ops import DenseUpsampling, fold_labels, set_dilations, strides_to_dilations, unfold

torch.manual_seed(0)
torch.set_num_threads(1)


# %%
def draw(count: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 3, size, size) and labels (N, size, size): 1 on lines two pixels wide."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    angle, shift = torch.rand(count, 1, 1) * 3.1416, (torch.rand(count, 1, 1) - 0.5) * size / 2
    distance = (rows - size / 2) * angle.cos() + (columns - size / 2) * angle.sin() - shift
    labels = (distance.abs() <= 1).long()
    return 0.8 * labels[:, None] + 0.5 * torch.randn(count, 3, size, size), labels


pictures, labels = draw(8)
pictures.shape, labels.float().mean().item()


# %% [markdown]
# ## The encoder
# Stride 8, 32 channels. DUC wants nothing of it but a map.


# %%
def encoder() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


encoder()(pictures).shape

# %% [markdown]
# ## Two ends
# The bilinear head predicts one score a place and enlarges the scores by 8. `DenseUpsampling` predicts all 8 x 8
# pixels of a place as channels:
# `(N, classes, 64, h, w)`. Its loss needs no map of full size: the labels are folded in the same way.


# %%
class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = encoder(), nn.Conv2d(32, 2, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.head(self.encoder(images)), scale_factor=8, mode="bilinear", align_corners=False)

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self(images), labels)


class Duc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = encoder(), DenseUpsampling(32, num_classes=2, factor=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return unfold(self.head(self.encoder(images)))

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.head(self.encoder(images)), fold_labels(labels, 8))


# %%
def trained(network: nn.Module, steps: int = 150) -> nn.Module:
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        network.loss(*draw(8)).backward()
        optimizer.step()
    return network.eval()


def line_iou(network: nn.Module) -> float:
    torch.manual_seed(2)
    images, truth = draw(64)
    with torch.no_grad():
        found = network(images).argmax(1)
    return ((found & truth).sum() / (found | truth).sum()).item()


found = {kind.__name__: line_iou(trained(kind())) for kind in (Bilinear, Duc)}
print({name: f"{100 * iou:.1f} % IoU of the line" for name, iou in found.items()})
assert found["Duc"] > found["Bilinear"] + 0.1

# %% [markdown]
# Interpolation cannot draw a line of two pixels from places eight pixels apart; learned channels can.
#
# ## Strides into dilation, and a rate for each layer
# The same functions work on any network, torchvision's and timm's too (docs/elsewhere.md): stride 8 becomes
# stride 4 with a finer map, or the layers
# get rates of their own.

# %%
finer = encoder()
strides_to_dilations(finer, output_stride=4)
print(encoder()(pictures).shape, "->", finer(pictures).shape)

hybrid = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
print(set_dilations(hybrid, [1, 2, 5]), hybrid(torch.zeros(1, 8, 20, 20)).shape)
