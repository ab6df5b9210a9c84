"""Errors of two kinds: worth retrying, or not.

Messages name the thing, the value and what was expected, never a customer's text. Exit codes and HTTP statuses live
at the edge. `args` equals the signature, so that every error survives pickling between processes.
"""


class EvergreenError(Exception):
    """Base of every error that a user is meant to read as one sentence."""


class TransientError(EvergreenError):
    """Error that a later retry may fix: a server is unavailable, a lock is held."""


class PermanentError(EvergreenError):
    """Trying again will not help before something is changed."""


class InvalidDataError(PermanentError):
    """Input data that cannot be used; the message names file and row and states what to do."""


class NotFoundError(PermanentError):
    """A key, version or record does not exist."""


class AlreadyExistsError(PermanentError):
    """A create-only write found something in its place."""


class ConflictError(TransientError):
    """The ledger has a newer record; read it again before deciding."""


class IntegrityError(PermanentError):
    """A digest or a hash chain does not match what it should."""


class DeadlineMissedError(PermanentError):
    """Too little of the budget is left to end with a valid version; nothing was registered."""


class UnavailableError(TransientError):
    """Unavailable service: MLflow, Prefect, the lake."""
