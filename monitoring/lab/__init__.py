"""Lab: what-if questions to the log. Nothing is recorded."""
