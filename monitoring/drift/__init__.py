"""Drift tests: columns, permutations, embeddings, and the detectors made of them."""
