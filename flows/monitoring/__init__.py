"""Monitoring of served traffic: the flow, retraining attempts, dead runs, silence."""
