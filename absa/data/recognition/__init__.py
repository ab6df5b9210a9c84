"""Recognition of a data file: which task it is for, and which column holds what."""
