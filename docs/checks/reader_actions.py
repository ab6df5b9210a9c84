"""Actions of a reader between two documented commands: `python -m docs.checks.reader_actions NAME WORDS...`.

They replace actions that a page leaves to the reader: provide labelled rows, send traffic, fill in labels, copy a key.
"""

import csv
import json
import os
import sys
from pathlib import Path

from absa.adapters.lake_stores import open_lake
from absa.client import Client
from absa.data.bundled import BUNDLED
from absa.data.snapshot import latest_manifest
from flows.platform.services import build_services
from flows.platform.settings import Home, Settings

UNIT = "acct-42"
_TICKETS = BUNDLED["tickets"]


def files() -> None:
    """Write the files that pages name into the working folder: rows of the bundled tickets."""
    import polars as pl

    rows = pl.read_csv(_TICKETS.ingested)
    rows.head(900).write_csv("tickets.csv")
    rows.slice(900, 200).write_csv("later.csv")
    rows.slice(1100, 200).write_csv("reviews.csv")
    rows.slice(1300).write_csv("test.csv")
    rows.slice(1100, 200).write_parquet("reviews.parquet")
    pl.read_csv(_TICKETS.traffic).select("text").write_csv("more.csv")
    Path("my.csv").write_text("at_s,requests_per_s\n0,20\n60,200\n120,20\n", encoding="utf-8")
    folder = Path("folder-of-labelled-csv")
    folder.mkdir(exist_ok=True)
    pl.read_csv(_TICKETS.new_area).write_csv(folder / "labelled.csv")


def ask(count: str) -> None:
    """Send texts to the router of the home, as one customer."""
    services = build_services()
    with _TICKETS.traffic.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][: int(count)]
    with Client(services.router_url) as client:
        for text in texts:
            client.predict(text, unit_id=UNIT)


def feedback_key() -> None:
    """Print the feedback key of the home."""
    sys.stdout.write(Home(Settings.load()).feedback_key())


def field(name: str) -> None:
    """Print a field of the JSON that the previous command printed."""
    sys.stdout.write(str(json.loads(Path(os.environ["LAST"]).read_text(encoding="utf-8"))[name]))


def newest_snapshot() -> None:
    """Print the digest of the newest snapshot."""
    manifest = latest_manifest(open_lake(Settings.load().lake_uri))
    assert manifest is not None
    sys.stdout.write(manifest.digest)


def page(part: str) -> None:
    """Print the address of a server that `evergreen up` started."""
    sys.stdout.write(Home(Settings.load()).url(part))


def label(queue: str, name: str) -> None:
    """Fill the last column of an exported queue with a label's name."""
    path = Path(queue)
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert rows, "the queue holds no row"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *([*row[:-1], name] for row in rows)])


def annotate(tasks: str, export: str, name: str) -> None:
    """Write a JSON-MIN export of Label Studio in which every task has a label."""
    asked = json.loads(Path(tasks).read_text(encoding="utf-8"))
    assert asked, "no task was exported"
    done = [each["data"] | {"id": number, "label": name} for number, each in enumerate(asked, start=1)]
    Path(export).write_text(json.dumps(done), encoding="utf-8")


def tiny_encoder(family: str, folder: str) -> None:
    """Write a tiny untrained encoder as a folder of transformers."""
    from tests.tiny_encoders import save_family

    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    save_family(family, Path(folder))


ACTIONS = {
    each.__name__: each
    for each in (files, ask, feedback_key, field, newest_snapshot, page, label, annotate, tiny_encoder)
}


if __name__ == "__main__":
    ACTIONS[sys.argv[1]](*sys.argv[2:])
