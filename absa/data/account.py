"""Account of an ingest: numbers of rows by their outcome."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class StrayQuotes:
    """Number of a file's rows with a double quote that was read as written, and the line of the first such row."""

    uri: str
    rows: int
    line: int


@dataclass(frozen=True, kw_only=True)
class Account:
    """Input rows and their outcomes.

    `read` counts rows of files, `inherited` counts rows of the parent. Each of these rows is kept, removed as a
    duplicate, removed because its label lost a conflict, or quarantined (`quarantined` counts rows per reason).
    `notices` are sentences about columns that were not used.
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
        """Number of rows of the files and of the parent."""
        return self.read + self.inherited

    @property
    def rows_out(self) -> int:
        """Number of kept rows, duplicates, resolved conflicts and quarantined rows together."""
        return self.kept + self.duplicates + self.conflicts + Counter(self.quarantined).total()

    @property
    def sentences(self) -> list[str]:
        """Sentences for the user: numbers of rows, quarantined rows per reason, and quotes that are read as written."""
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
    """Return the sentence about double quotes that were read as written, with the line of the first quote."""
    others = f" (and {found.rows - 1:,} more like it)" if found.rows > 1 else ""
    return (
        f"{found.uri} line {found.line}{others}: a double quote opens a field and does not close it; "
        "the line was read as written"
    )
