"""Projection of the ledger's head: the registry's aliases, which show the active versions in MLflow."""

from typing import Protocol

from absa.ledger.record import LedgerRecord
from absa.ledger.routing import CHALLENGER, CHAMPION


class Aliases(Protocol):
    """Aliases of a registered model, and the ledger's head from which they were last set."""

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias."""

    def anchor(self) -> tuple[int, str] | None:
        """Return number and hash of the last projected head; None before the first projection."""

    def set_alias(self, alias: str, version: str | None) -> None:
        """Set an alias; None removes it."""

    def set_anchor(self, number: int, digest: str) -> None:
        """Store hash and number of the projected head, the number last: see `_rewritten`."""


def project_head(registry: Aliases, head: LedgerRecord) -> list[str]:
    """Set the aliases champion and challenger as in the ledger's head. Idempotent; any process may call this function.

    Returns:
        A sentence for each alias that was moved by hand since the last projection and is now corrected; and a sentence
        if the ledger is another one than at the last projection. In this case the anchor is not changed, so that
        `verify` continues to report the difference.
    """
    anchor = registry.anchor()
    if anchor is not None and anchor[0] > head.number:
        return []  # another process has projected a newer head
    current = registry.aliases()
    by_hand: list[str] = []
    for alias, wanted in ((CHAMPION, head.state.champion), (CHALLENGER, head.state.challenger)):
        found = current.get(alias)
        if found == wanted:
            continue
        if anchor is not None and anchor[0] == head.number:
            by_hand.append(
                f"alias {alias} was {found or 'nothing'} in MLflow; it is {wanted or 'nothing'} again, as in the ledger"
            )
        registry.set_alias(alias, wanted)
    if anchor is not None and _rewritten(head, anchor):
        return [
            *by_hand,
            f"ledger record {anchor[0]} differs from the record that MLflow was set by: run `evergreen ledger verify`",
        ]
    if anchor != (head.number, head.hash):
        registry.set_anchor(head.number, head.hash)
    return by_hand


def _rewritten(head: LedgerRecord, anchor: tuple[int, str]) -> bool:
    """Return True if the ledger has another record than the projected one under the same number.

    A projection that was killed has stored the head's hash with the number of the record before; this does not count.
    """
    number, remembered = anchor
    if number == head.number:
        return remembered != head.hash
    return number + 1 == head.number and remembered not in {head.previous_hash, head.hash}
