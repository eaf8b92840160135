"""Stop-gap until the owner's version lands."""
from types import SimpleNamespace
from typing import Any
import numpy as np

def evaluate(predictor: Any, dataset: Any, *, indices: Any = None, progress: bool = False) -> Any:
    n = len(dataset.classes)
    m = np.zeros((n, n), np.int64)
    for i in range(len(dataset)) if indices is None else indices:
        s = dataset[i]
        p = predictor(s.image)
        k = s.label < n
        m += np.bincount(s.label[k].astype(np.int64) * n + p[k], minlength=n * n).reshape(n, n)
    return SimpleNamespace(matrix=m)
