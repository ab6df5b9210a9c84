"""Rows of a training: token ids, their files, the choice of rows, and the batches made of them."""
