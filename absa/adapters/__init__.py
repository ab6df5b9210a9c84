"""Adapters: one vendor each, and the packages that the lake holds."""
