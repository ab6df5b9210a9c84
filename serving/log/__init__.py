"""The write-ahead log of predictions: spool on the local disk, Parquet in the lake."""
