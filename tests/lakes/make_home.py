"""Make tests/lakes/home-0.1.0.tar.gz with the code of release 0.1.0: a small home that all its servers worked in.

    git worktree add FOLDER ef2729b
    python tests/lakes/make_home.py FOLDER

The home has a snapshot of 240 rows, a champion whose package (a toy) is in MLflow alone, predictions with feedback of
its router, the databases of MLflow and Prefect, and a settings.env. Logs and what a start makes again are left out;
paths of this machine become /srv/evergreen.
"""

import csv
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

TARGET = Path(__file__).with_name("home-0.1.0.tar.gz")
SETTINGS = "EVERGREEN_COOLDOWN_S=600\nEVERGREEN_RAMP=0.1,0.5\nEVERGREEN_MAX_EPOCHS=3\nEVERGREEN_WORKERS=1\n"
WORDS = {"love": 2, "great": 2, "fast": 2, "easy": 2, "terrible": 0, "slow": 0, "broken": 0, "a": 1, "to": 1, "it": 1}
PLACES = (
    "home", "work", "school", "travel", "sport", "music", "food", "news", "maps", "mail", "chat", "notes", "books",
    "photos", "games", "money",
)  # fmt: skip
DAYS = (
    "monday", "tuesday", "friday", "sunday", "spring", "summer", "autumn", "winter", "morning", "noon", "night", "may",
    "june", "july", "august",
)  # fmt: skip
LEFT_OUT = ("evidently", "logs", "models", "run", "serving/models", "prefect/storage", "prefect/profiles.toml", "jobs")
PUBLIC = "/srv/evergreen"
CHAMPION = """
import sys, time
from pathlib import Path
import httpx, mlflow
from absa.adapters.ledger import State
from absa.inference.package import load_package
from absa.lifecycle import crowned
from absa.packaging.mlflow_model import log_package
from flows.wiring import wire
from tests.toy_package import build_toy_package

services = wire()
package = build_toy_package(Path(sys.argv[1]))
digest = load_package(package).digest
mlflow.set_tracking_uri(services.environment["MLFLOW_TRACKING_URI"])
mlflow.set_experiment("continuous-training")
with mlflow.start_run():
    version = log_package(package, registered_model_name=services.registry.model).version
gate = {"verdict": "PROMOTE", "reasons": ["better than the most frequent label"]}
said = f"version {version}: the gate says PROMOTE."
services.ledger.append(expected=0, actor="manual", action="register", reason=said, state=State(),
                       versions={version: digest}, evidence=gate)
head = services.ledger.append(expected=1, actor="manual", action="promote", reason=gate["reasons"][0],
                              state=crowned(version), evidence=gate)
services.project(head)

def until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.2)

with httpx.Client(base_url=services.router_url, trust_env=False) as router:
    until(lambda: router.get("/readyz").status_code == 200)
    key = {"X-API-Key": services.home.feedback_key()}
    for number, word in enumerate(["great", "slow", "love", "broken"] * 5):
        body = {"text": f"the app is {word}", "aspect": "app", "unit_id": f"u{number}"}
        answer = router.post("/v1/predict", json=body).raise_for_status().json()
        told = {"request_id": answer["request_id"], "label": answer["label"]}
        router.post("/v1/feedback", json=told, headers=key).raise_for_status()
until(lambda: services.lake.list("predictions/") and services.lake.list("feedback/"))
"""


def main(checkout: Path) -> None:
    """Make the home below a temporary folder and pack it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        home = folder / "home"
        home.mkdir()
        (home / "settings.env").write_text(SETTINGS, encoding="utf-8")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))}
        environment = {**kept, "EVERGREEN_HOME": str(home), "EVERGREEN_REPLICA": "r1", "PYTHONPATH": str(checkout)}

        def run(*words: str) -> None:
            subprocess.run([sys.executable, *words], cwd=checkout, env=environment, check=True, timeout=600)

        run("-m", "flows.cli", "ingest", str(_rows(folder / "rows.csv")))
        try:
            run("-m", "flows.cli", "up")
            run("-c", CHAMPION, str(folder / "package"))
        finally:
            run("-m", "flows.cli", "down")
        for each in LEFT_OUT:
            shutil.rmtree(home / each) if (home / each).is_dir() else (home / each).unlink(missing_ok=True)
        names = {str(folder): PUBLIC, str(checkout): PUBLIC}
        for database in home.rglob("*.db"):
            _shorten(database, names)
        for file in [each for name in ("MLmodel", "manifest.json", "state.json") for each in home.rglob(name)]:
            for old, new in names.items():
                file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        with tarfile.open(TARGET, "w:gz", compresslevel=9) as archive:
            archive.add(home, "home", filter=_anonymous)


def _rows(path: Path) -> Path:
    chance = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "aspect", "label"))
        for number in range(240):
            word = chance.choice(sorted(WORDS))
            rows.writerow((f"the app is {word} for {PLACES[number % 16]} and {DAYS[number // 16]}", "app", WORDS[word]))
    return path


def _shorten(file: Path, names: dict[str, str]) -> None:
    """Replace paths in every text of an SQLite database."""
    with closing(sqlite3.connect(file)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for column in [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]:
                for old, new in names.items():
                    database.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) '
                        f'WHERE typeof("{column}") = \'text\' AND instr("{column}", ?)',
                        (old, new, old),
                    )
        database.commit()
        database.execute("VACUUM")


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
