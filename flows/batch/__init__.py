"""Batch scoring with a registered version, and the flow that runs it."""
