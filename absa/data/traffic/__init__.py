"""Simulated customers: arrivals, texts, known drift and feedback."""
