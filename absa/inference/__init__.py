"""Inference: the engine of live serving, batch jobs and evaluation. Needs onnxruntime, tokenizers and numpy."""
