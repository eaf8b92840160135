"""Stop-gap until the owner's version lands."""
from typing import Any
import numpy as np

def overlay(image: Any, labels: Any, classes: Any) -> Any:
    lut = np.zeros((256, 3), np.uint8)
    lut[: len(classes)] = classes.palette
    return (image // 2 + lut[labels] // 2).astype(np.uint8)
