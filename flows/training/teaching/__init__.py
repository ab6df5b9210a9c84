"""Teaching: what a student learns from teachers beside the labels."""
