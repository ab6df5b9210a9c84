"""Capacity: tasks that a load needs and the cost of a burst, by traces, policies and a discrete-event simulation."""
