"""Promotion: continuous training, experiments, the gate, poisoned feedback, kills."""
