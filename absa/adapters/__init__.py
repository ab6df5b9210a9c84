"""Adapters: one module per vendor, and the store of packages in the lake."""
