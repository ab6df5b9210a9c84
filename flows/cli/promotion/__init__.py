"""Commands promote and rollback."""
