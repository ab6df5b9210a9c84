"""Errors of two kinds: worth retrying, or not.

Messages name the thing, the value and what was expected, never a customer's text. Commands and routes choose the exit
codes and HTTP statuses. `args` equals the signature, so that every error can be pickled between processes.
"""


class EvergreenError(Exception):
    """Base of every error whose message is one sentence for the user."""


class TransientError(EvergreenError):
    """Error that a later retry may fix: a server is unavailable, a lock is held."""


class PermanentError(EvergreenError):
    """Error that repeats until the input, the settings or the environment is changed."""


class InvalidDataError(PermanentError):
    """Input data that cannot be used; the message names file and row and states what to do."""


class NotFoundError(PermanentError):
    """Missing key, version or record."""


class AlreadyExistsError(PermanentError):
    """Existing key or file at the place of a create-only write."""


class ConflictError(TransientError):
    """Newer record in the ledger than the caller has read; read the ledger again before the next decision."""


class IntegrityError(PermanentError):
    """Digest or hash chain that does not match the content."""


class DeadlineMissedError(PermanentError):
    """Budget too short for a valid version; nothing was registered."""


class UnavailableError(TransientError):
    """Unavailable service: MLflow, Prefect, the lake."""
