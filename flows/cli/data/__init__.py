"""Commands of the rows in the lake."""
