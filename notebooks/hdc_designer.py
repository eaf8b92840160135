# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Designing dilation rates
#
# Which pixels can reach the centre through layers with these rates? The same arithmetic answers in the browser:
# docs/designer.md.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from ducseg.ops import hdc

print(hdc.report([2, 2, 2]))
assert hdc.check([2, 2, 2]).holes == 120


# %% [markdown]
# `coverage` counts the paths from each pixel to the centre; a zero is a hole.


# %%
def show(*schedules: list[int]) -> None:
    figure, panels = plt.subplots(1, len(schedules), figsize=(3.2 * len(schedules), 3.4), layout="constrained")
    for panel, rates in zip(np.atleast_1d(panels), schedules):
        found = hdc.check(rates)
        paths = hdc.coverage(rates).astype(float)
        panel.imshow(np.ma.masked_equal(np.log1p(paths), 0), cmap="Blues")
        panel.set_facecolor("tomato")
        panel.set_title(f"{rates}: {found.covered_fraction:.0%} of {found.receptive_field}")
    figure.savefig("coverage.png")


show([2, 2, 2], [1, 2, 3], [1, 2, 5], [1, 2, 9])

# %% [markdown]
# ## Equation 2 is a guide
# M_2 <= K is the paper's goal. It is neither enough nor needed:

# %%
for rates in ([2, 2, 2], [2, 3], [9, 3, 1], [1, 2, 5]):
    found = hdc.check(rates)
    print(f"{rates!s:12} M_2 = {found.gaps[min(1, len(rates) - 1)]}  goal {found.equation_2!s:5}  covers {found.ok}")

# %% [markdown]
# ## Search
# All schedules of three layers that cover, the farthest first; and the evenest that reach a given field.

# %%
print(hdc.search(3)[:5])
print(hdc.search(5, receptive_field=61)[0])
assert all(hdc.check(rates).ok for rates in hdc.search(3))

# %% [markdown]
# ## Does the network do what the arithmetic says?
# Layers with these rates and kernels of ones, and the gradient of the centre: where it is zero, nothing is seen.


# %%
def seen(rates: list[int], size: int = 41) -> np.ndarray:
    layers = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in rates))
    hdc.set_dilations(layers, rates)
    for layer in layers:
        nn.init.ones_(layer.weight)
    picture = torch.zeros(1, 1, size, size, requires_grad=True)
    layers(picture)[0, 0, size // 2, size // 2].backward()
    return picture.grad[0, 0].numpy()


for rates in ([2, 2, 2], [1, 2, 5], [1, 2, 9]):
    side = hdc.check(rates).receptive_field
    middle = slice((41 - side) // 2, (41 + side) // 2)
    assert np.array_equal(seen(rates)[middle, middle], hdc.coverage(rates)), rates
print("the gradient is the count of paths, to the last one")
