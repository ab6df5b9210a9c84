"""HTTP surface of a worker: routes, parsing, keys, limits."""
