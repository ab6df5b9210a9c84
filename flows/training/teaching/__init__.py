"""Teaching: a student learns from the answers of teachers in addition to the labels."""
