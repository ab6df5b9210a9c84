"""Records that several rooms share: fields, keys in the lake, writing and reading."""
