"""Prefect flows, their wiring, and the `evergreen` command line."""
