"""Drift: false alarms, power and speed."""
