"""From a trained model to one version on disk: ONNX graph, int8, calibration, parity, card."""
