"""Read, validate, deduplicate, split and snapshot labelled feedback; and simulate the customers who give it."""
