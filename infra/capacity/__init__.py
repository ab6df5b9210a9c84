"""How many tasks a load needs and what a burst costs: traces, scaling policies, a discrete-event simulation."""
