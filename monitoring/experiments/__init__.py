"""Experiments: evidence from the lake, A/B statistics, shadow comparison."""
