"""Ledger of what is active: routing, state, record, lifecycle and history are pure, the store reads and appends."""
