"""Messages to the operator's webhook: incidents, ledger records and finished trainings."""
