"""The `evergreen` command line."""
