"""Rows of a training: token ids, their files, the choice of rows, and batches."""
