"""Ledger of the active versions. Only the store reads and appends; the other modules are pure."""
