"""The ledger: state, records, lifecycle and routing as pure code, and the store in the lake."""
