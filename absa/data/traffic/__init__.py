"""Simulated customers: who asks when about what, in which words, with which known drift, and the feedback."""
