"""Inference of a worker: the batcher, the loaded versions, the cache of answers."""
