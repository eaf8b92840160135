"""The network of the authors' released weights, and its export to ONNX; the original is `weights.tusimple`'s."""
