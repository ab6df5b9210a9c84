"""Snapshot digests of fixed files: what an earlier release took is the same snapshot in this one."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.ingest import ingest
from absa.data.snapshot import load_quarantine, load_side
from absa.records.schema import SIDES

TIMES = (
    "2026-11-01T12:00:00Z",
    "2026-11-01 12:00:00.123+00",
    "2026-11-01 12:00",
    "2026/11/01",
    "2026-11-01T12:00:00+09:00",
    "2026-11-01 12:00:00 UTC",
)
PIECES = (
    *("the app", "battery life", "10/10", "$5", "a_b", "\t", "  ", "\x1f", "\u00a0", "\u2028", "\u00ad", "\ufeff"),
    *("Größe", "„schön“", "STRASSE", "ß", "İstanbul", "ΣΑΣ ς", "naïve cafe\u0301", "ﬁne", "“q”", "–", "…", "½ ₂"),
    *("装置のサイズ", "が", "か\u3099", "ｶﾞﾌｪ", "１２３", "。", "、", "　", "한국어", "\u1112\u1161\u11ab"),
    *("ไทยที่ดี", "हिन्दी की", "שלום", "مرحبا، ٣", "👍🏽", "👩\u200d👩\u200d👧", "🇩🇪"),
)


def csv_cell(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if any(mark in value for mark in ',"\r\n') else value


def many_scripts(rows: int) -> list[dict[str, str]]:
    """Rows of random pieces, some of them twice in another case, form or with another label."""
    drawn = random.Random(7)
    found: list[dict[str, str]] = []
    for n in range(rows):
        pieces = drawn.choices(PIECES, k=drawn.randint(1, 7))
        row = {
            "text": drawn.choice(("", " ")).join(pieces),
            "aspect": drawn.choice(pieces).strip() or "app",
            "label": drawn.choice(("0", "1", "2.0", "positive", " Neutral ", "7")),
            "segment": drawn.choice(("", "shop", "店")),
            "observed_at": drawn.choice(TIMES),
            "source": drawn.choice(("", "crm", "顧客")),
        }
        if n % 5 == 4:
            row |= {"text": found[n - 3]["text"].upper() + "!!", "aspect": found[n - 3]["aspect"]}
        found.append(row)
    return found


def csv(rows: list[dict[str, str]], line_end: str = "\n") -> str:
    lines = [",".join(rows[0]), *(",".join(map(csv_cell, row.values())) for row in rows)]
    return line_end.join([*lines, ""])


def jsonl(rows: list[dict[str, str]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(rows))


def parquet(path: Path, rows: list[dict[str, str]]) -> None:
    pl.DataFrame(rows).write_parquet(path, row_group_size=len(rows) // 3 + 1)


def text(path: Path, content: str) -> None:
    path.write_bytes(content.encode())


HEADER = "text,aspect,label,observed_at\n"
ODD_CSV = HEADER + (
    '"say ""app"", twice",app,0,2026-11-01\r\n'
    '"two\nlines, one app",app,1,2026-11-02T10:00:00Z\n'
    '"crlf\r\ninside the app",app,2,2026-11-03 10:00\n'
    "nul \0 in the app,app,0,2026-11-04\n"
    "app nul\0\0,app nul,2,2026-11-04\n"
    '12" app is stray,app,1,2026-11-05\n'
    '"open app quote,app,2,2026-11-06\n'
    "\n"
    "cafe\u0301 app,café,0,2026-11-07\n"
    "café app,cafe\u0301,1,2026-11-08\n"
    "no such phrase,app,1,2026-11-08\n"
    "too,many,cells,in,this,app\n"
    "👩\u200d👩\u200d👧 app,app,2,yesterday\n"
    "…!?,!?,2,2026-11-09T23:59:59.999999+05:30\n"
    "…?!,?!,1,2026-11-09T23:59:59.999999+05:30"
)
"""Quotes, line breaks, zero bytes, two forms of one letter, times of several forms, and rows that cannot be used."""

ROWS = many_scripts(1500)
CASES: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "csv": ("rows.csv", lambda path: text(path, csv(ROWS)), "f64a0d1e43d5bb0f", "6482c939851cc4cf"),
    "crlf": ("rows.csv", lambda path: text(path, csv(ROWS, "\r\n")), "f64a0d1e43d5bb0f", "6482c939851cc4cf"),
    "jsonl": ("rows.jsonl", lambda path: text(path, jsonl(ROWS)), "e4ed67f4f8b00385", "14c211fc58207967"),
    "parquet": ("rows.parquet", lambda path: parquet(path, ROWS), "6ce45af1d3309796", "8575bdad0f881438"),
    "odd": ("odd.csv", lambda path: text(path, ODD_CSV), "04cfc608d8352b65", "9c5843f8a85d30f1"),
}
"""Name of a file, how it is written, and what the release before this test made of it: digest and `contents`."""


@pytest.mark.parametrize("case", CASES)
def test_fixed_file_keeps_its_digest(case, tmp_path):
    name, write, digest, rows = CASES[case]
    write(tmp_path / name)
    lake = FolderLake(tmp_path / "lake")
    manifest = ingest(lake, [tmp_path / name], max_bad_share=1.0, unit_secret=b"key")
    assert (manifest.digest[:16], contents(lake, manifest.digest)) == (digest, rows)


def contents(lake: FolderLake, digest: str) -> str:
    """Hash of all rows with their ids and times, on their sides, and of the quarantine."""
    sides = [load_side(lake, digest, side).sort("example_id", "aspect", "label").rows() for side in SIDES]
    bad = load_quarantine(lake, digest).drop("uri").sort("row").rows()
    return hashlib.sha256(json.dumps([*sides, bad], default=str).encode()).hexdigest()[:16]
