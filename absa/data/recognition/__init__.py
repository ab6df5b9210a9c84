"""Recognition of a data file: its task and the content of its columns."""
