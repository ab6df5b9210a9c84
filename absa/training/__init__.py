"""Trainer with a time budget: deadline, tokens, batches, loop, checkpoints. Needs torch and no MLOps library."""
