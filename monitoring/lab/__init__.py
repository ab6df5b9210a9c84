"""Lab: policies and rhythms tried out on the log. Nothing is recorded."""
