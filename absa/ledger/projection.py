"""Projection of the ledger's head: the registry's aliases, which show people what is active."""

from typing import Protocol

from absa.ledger.record import LedgerRecord
from absa.ledger.routing import CHALLENGER, CHAMPION


class Aliases(Protocol):
    """Aliases of a registered model, and the ledger's head that they were last set from."""

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias."""

    def anchor(self) -> tuple[int, str] | None:
        """Return number and hash of the last projected head."""

    def set_alias(self, alias: str, version: str | None) -> None:
        """Set an alias; None removes it."""

    def set_anchor(self, number: int, digest: str) -> None:
        """Note number and hash of the projected head, the number last: see `_rewritten`."""


def project_head(registry: Aliases, head: LedgerRecord) -> list[str]:
    """Set the aliases champion and challenger as in the ledger's head. Idempotent; any process may call it.

    Returns:
        A sentence for each alias that was moved by hand since the last projection; it has been put back. One where
        the ledger is not the one that was projected before: the anchor is left, so that `verify` keeps reporting it.
    """
    anchor = registry.anchor()
    if anchor is not None and anchor[0] > head.number:
        return []  # a newer head was projected already
    current = registry.aliases()
    by_hand: list[str] = []
    for alias, wanted in ((CHAMPION, head.state.champion), (CHALLENGER, head.state.challenger)):
        found = current.get(alias)
        if found == wanted:
            continue
        if anchor is not None and anchor[0] == head.number:
            by_hand.append(
                f"alias {alias} was {found or 'nothing'} in MLflow, by the ledger it is {wanted or 'nothing'}: put back"
            )
        registry.set_alias(alias, wanted)
    if anchor is not None and _rewritten(head, anchor):
        return [*by_hand, f"ledger record {anchor[0]} is not what it was: see `evergreen ledger verify`"]
    if anchor != (head.number, head.hash):
        registry.set_anchor(head.number, head.hash)
    return by_hand


def _rewritten(head: LedgerRecord, anchor: tuple[int, str]) -> bool:
    """Return True if the record that the registry remembers is another one now.

    A projection that was killed half-way leaves the head's hash beside the number before it; that is none.
    """
    number, remembered = anchor
    if number == head.number:
        return remembered != head.hash
    return number + 1 == head.number and remembered not in {head.previous_hash, head.hash}
