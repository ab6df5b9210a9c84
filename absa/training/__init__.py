"""The budgeted trainer: deadline, tokens, batches, loop, checkpoints. Needs torch and nothing of MLOps."""
