"""The model and everything that a process needs to train, judge, package or run it."""
