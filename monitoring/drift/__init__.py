"""Drift tests: columns, bootstrap, embeddings, detectors of slow loss and support."""
