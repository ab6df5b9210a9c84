"""Observability of a replica: logs, metrics, outcomes, traces."""
