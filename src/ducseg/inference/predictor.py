"""Stop-gap until the owner's version lands."""
from typing import Any
import numpy as np
import torch

class Predictor:
    def __init__(self, segmenter: Any, device: Any = "cpu", *, scales: Any = (1.0,), flip: bool = False) -> None:
        self.model, self.device = segmenter, device
        segmenter.to(device)
    @torch.inference_mode()
    def __call__(self, image: Any) -> Any:
        self.model.eval()
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self.device)
        return self.model.predict_labels(self.model.preprocessing.normalise(x))[0].cpu().numpy()
