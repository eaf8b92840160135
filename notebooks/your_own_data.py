# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Your own data
#
# From a folder of pictures and masks to a network, its scores and its mistakes. So that this runs anywhere, the
# folder is drawn below:
# put the path of yours into `DATA` and leave that cell out. Takes about two minutes.

# %%
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

import ducseg
from ducseg.cli import main

WORK = Path(tempfile.mkdtemp())
DATA = WORK / "mydata"

# %%
rng = np.random.default_rng(0)
for folder in ("images", "masks"):
    (DATA / folder).mkdir(parents=True)
for index in range(24):
    mask = np.zeros((96, 128), np.uint8)
    cv2.polylines(mask, [rng.integers(0, 128, (4, 1, 2)).astype(np.int32)], False, 1, 2)
    image = np.clip(150 - 70 * mask[..., None] + rng.normal(0, 15, (96, 128, 3)), 0, 255).astype(np.uint8)
    cv2.imwrite(str(DATA / "images" / f"{index:02d}.png"), image)
    cv2.imwrite(str(DATA / "masks" / f"{index:02d}.png"), 255 * mask)
names = [{"name": "road", "color": [0, 0, 0]}, {"name": "crack", "color": [255, 0, 0]}]
(DATA / "classes.json").write_text(json.dumps(names))

# %% [markdown]
# ## Look first
# `main` is the command line: the same words as in a shell.

# %%
assert main(["data", "check", "folder", str(DATA), "--workers", "1"]) == 0

# %% [markdown]
# ## Train
# The plan says what it does and why. One minute without ImageNet's weights is next to nothing: leave these
# options out, and give
# yours ten.

# %%
RUN = WORK / "run"
small = {"--model.weights": "None", "--model.recalibrate-batches": "0", "--run.threads": "1", "--data.workers": "0"}
options = ["--minutes", "1", *(word for pair in small.items() for word in pair)]
assert main(["train", str(DATA), "--out", str(RUN), *options]) == 0

# %% [markdown]
# The report lies beside it: scores by class and width, the worst pictures, curves.

# %%
print(RUN / "report.html")
assert (RUN / "report.html").is_file()

# %% [markdown]
# ## Use it

# %%
predictor = ducseg.load(RUN)
image = cv2.imread(str(DATA / "images" / "00.png"))[:, :, ::-1]
labels = predictor(image)
shares = predictor.probabilities(image)
print(predictor.model.classes.names, labels.shape, labels.dtype, shares.shape)
assert labels.shape == image.shape[:2] and shares.shape == (2, *labels.shape)

# %% [markdown]
# How much of the line is found, and how exactly:

# %%
truth = cv2.imread(str(DATA / "masks" / "00.png"), 0) > 0
print(f"recall {(labels[truth] == 1).mean():.0%}, precision {truth[labels == 1].mean():.0%}")
