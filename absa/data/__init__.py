"""Data: reading, validation, deduplication, split and snapshots of labelled texts; simulated customers."""
