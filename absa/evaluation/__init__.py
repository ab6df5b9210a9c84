"""Evaluation of a model: metrics, their uncertainty, and the gate."""
