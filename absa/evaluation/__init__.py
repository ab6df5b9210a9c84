"""How good a model is, how sure we are of it, and whether it may be served."""
