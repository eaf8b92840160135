"""Networks for other runtimes: one ONNX file with everything from pixels to labels, checked, also in int8."""
