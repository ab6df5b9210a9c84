"""Optimiser step: objective, parameters, learning rate, execution, and ranks of several processes."""
