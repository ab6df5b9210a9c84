"""Two promoters at the same instant: one wins each time and the ledger verifies; writes results/promoters.json.

Two processes look at the same head, wait for each other, and append at once, 200 times on a folder and 200 times on
S3 (moto's server, which answers a create on a taken key with 412). A loser must be told with a ConflictError.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from absa.adapters.lake_stores import open_lake
from absa.errors import ConflictError
from absa.ledger.lifecycle import crowned
from absa.ledger.store import Ledger
from benchmarks.figures import Row, share, write_result

RESULT = Path(__file__).parents[1] / "results" / "promoters.json"
TIMEOUT_S = 60.0


def promoter(name: str, uri: str, rounds: int, barrier: Barrier, answer: Connection) -> None:
    """Look, wait for the other, append; says for each round whether it won, lost or failed otherwise."""
    ledger = Ledger(open_lake(uri))
    said = []
    for _ in range(rounds):
        head = ledger.head()
        number = head.number if head else 0
        barrier.wait(TIMEOUT_S)
        try:
            ledger.append(
                expected=number,
                actor=name,
                action="promote",
                reason="race",
                state=crowned(name),
                versions={name: name * 64},
            )
            said.append("won")
        except ConflictError:
            said.append("lost")
        except Exception as error:  # whatever it is, it is the finding
            said.append(type(error).__name__)
        barrier.wait(TIMEOUT_S)
    answer.send(said)


def race(uri: str, rounds: int) -> list[tuple[str, str]]:
    """Return the answers of both promoters in each round."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    runners = [
        context.Process(target=promoter, args=(name, uri, rounds, barrier, pipe[1]))
        for name, pipe in zip("12", pipes, strict=True)
    ]
    for runner in runners:
        runner.start()
    said = [pipe[0].recv() for pipe in pipes]
    for runner in runners:
        runner.join()
    return list(zip(*said, strict=True))


def rows_of(case: str, uri: str, rounds: int) -> list[Row]:
    """The figures of one lake."""
    said = race(uri, rounds)
    ledger = Ledger(open_lake(uri))
    one_won = sum(sorted(each) == ["lost", "won"] for each in said)
    whole = ledger.verify() == [] and len(ledger.follow()) == rounds
    return [
        Row(
            **{**vars(share(case, "rounds_with_one_winner", one_won, rounds, target=">= 1")), "met": one_won == rounds}
        ),
        Row(**{**vars(share(case, "ledger_verifies", int(whole), 1, target=">= 1")), "met": whole}),
    ]


def main() -> int:
    """Race on a folder and on S3 and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    from importlib.metadata import version

    import boto3
    import werkzeug.serving
    from moto.server import ThreadedMotoServer

    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of("two promoters, a folder", str(Path(folder) / "lake"), options.rounds)
    werkzeug.serving.WSGIRequestHandler.log = lambda *_: None  # a line a request says nothing here
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        boto3.client("s3").create_bucket(Bucket="lake")
        rows += rows_of("two promoters, S3", "s3://lake/race", options.rounds)
    finally:
        server.stop()
    write_result(
        options.out, name="promoters", command="make benchmark-promoters", seed=0, rows=rows,
        versions={"moto": version("moto"), "boto3": version("boto3")},
    )  # fmt: skip
    for row in rows:
        print(f"{row.case}: {row.metric} {row.value:.4g} ({row.target})")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
