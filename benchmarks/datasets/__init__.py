"""Batch scoring and ingest of whole datasets."""
