"""Packaging of a trained model as a folder: ONNX graph, int8, calibration, parity, card."""
