"""Rows of files: delimited text, JSON lines and Parquet, from folders and buckets."""
