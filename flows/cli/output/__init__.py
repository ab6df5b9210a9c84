"""Output of commands: results for people and programs, progress, and the log of libraries."""
