"""Networks for other runtimes: one ONNX file with everything from uint8 pixels to labels, checked, also in int8."""
