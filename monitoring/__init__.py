"""Monitoring of served traffic: windows, drift, loss with and without labels, the staleness policy, experiments."""
