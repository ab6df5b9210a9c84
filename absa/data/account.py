"""Account of an ingest: the outcome of every row."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class StrayQuotes:
    """Rows of a file with a double quote that was read as written, and the line of the first."""

    uri: str
    rows: int
    line: int


@dataclass(frozen=True, kw_only=True)
class Account:
    """Input rows and their outcomes.

    `read` rows of files and `inherited` rows of the parent are kept, removed as duplicates, removed because their label
    lost a conflict, or quarantined (rows per reason). `notices` are about columns that were not used.
    """

    read: int
    inherited: int
    kept: int
    duplicates: int
    conflicts: int
    quarantined: Mapping[str, int]
    stray_quotes: tuple[StrayQuotes, ...] = field(default=())
    notices: tuple[str, ...] = field(default=())

    @property
    def rows_in(self) -> int:
        """Rows of the files and of the parent."""
        return self.read + self.inherited

    @property
    def rows_out(self) -> int:
        """Rows kept, duplicates, conflicts resolved and quarantined rows."""
        return self.kept + self.duplicates + self.conflicts + Counter(self.quarantined).total()

    @property
    def sentences(self) -> list[str]:
        """Sentences for the user: the sum, quarantined rows per reason, and quotes that were read as written."""
        bad = Counter(self.quarantined).total()
        inherited = f" ({self.read:,} read, {self.inherited:,} of the snapshot before)" if self.inherited else ""
        lines = [
            f"{self.rows_in:,} rows{inherited} = {self.kept:,} kept + {self.duplicates:,} duplicates + "
            f"{self.conflicts:,} conflicts resolved + {bad:,} quarantined"
        ]
        if bad:
            lines.append("quarantined " + ", ".join(f"{n:,} × {reason}" for reason, n in self.quarantined.items()))
        return [*lines, *(stray_quotes_sentence(each) for each in self.stray_quotes), *self.notices]


def stray_quotes_sentence(found: StrayQuotes) -> str:
    """Return the sentence about double quotes that were read as written, with the line of the first."""
    others = f" (and {found.rows - 1:,} more like it)" if found.rows > 1 else ""
    return (
        f"{found.uri} line {found.line}{others}: a double quote opens a field and does not close it; "
        "the line was read as written"
    )
