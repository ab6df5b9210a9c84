"""Capacity: the tasks that a load needs, by traces, scaling policies and a discrete-event simulation."""
