"""Batch inference: whole files through the engine, one process per core, every row once."""
