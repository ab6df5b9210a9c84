"""Batch inference: whole files through the engine, one process a core, every row once."""
