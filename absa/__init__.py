"""The model and everything that a process needs to train, judge, package or run it."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime sends telemetry unless this is set first
