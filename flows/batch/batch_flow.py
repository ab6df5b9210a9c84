"""Flow batch: score a whole dataset with a registered version; see `evergreen batch`."""

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

from prefect import flow
from pydantic import Field

from flows.batch.score_batch import (
    BatchOutcome,
    BatchRequest,
    batch_summary,
    said,
    score_batch,
    usd_per_row,
)
from flows.platform.artifacts import flow_services, leave_signs
from flows.platform.services import Services

if TYPE_CHECKING:
    from absa.batch.batch_job import BatchProgress

_TELL_EVERY_S: Final = 5.0


def score_step(services: Services, request: BatchRequest) -> BatchOutcome:
    """Score the batch and report its progress."""
    each_usd = usd_per_row(services)
    move = services.reporter.progress(key="batch-progress", description=request.input_uri)
    last = time.monotonic()

    def tell(now: "BatchProgress") -> None:
        nonlocal last
        if time.monotonic() - last >= _TELL_EVERY_S:
            last = time.monotonic()
            services.reporter.log(said(now, each_usd))
            move(100 * now.share)

    outcome = score_batch(services, request, on_progress=tell)
    move(100.0)
    return outcome


@flow(name="batch", on_running=[leave_signs])
def batch(
    input_uri: Annotated[
        str, Field(description="CSV, JSONL, .xlsx or Parquet: a file, a folder or s3://bucket/prefix.")
    ],
    output_uri: Annotated[str, Field(description="Folder or s3://bucket/prefix for the scored Parquet.")],
    model: Annotated[
        str | None, Field(description="models:/NAME@challenger or models:/NAME/7; unset: the champion.")
    ] = None,
    engine: Annotated[str, Field(description="local: one process per core. ray: a Ray cluster.")] = "local",
    address: Annotated[str | None, Field(description="Ray cluster; unset: one on this machine.")] = None,
    workers: Annotated[int | None, Field(description="Cores to use; unset: all.")] = None,
    max_bad_share: Annotated[float, Field(description="Share of bad rows above which the job fails.")] = 0.1,
    log: Annotated[bool, Field(description="Write the answers to the lake as predictions.")] = False,
    drift_report: Annotated[bool, Field(description="Compare the rows with the version's test rows.")] = False,
) -> dict[str, Any]:
    """Score a whole dataset, every row once. A repeated run continues a killed one, or does nothing."""
    request = BatchRequest(
        input_uri=input_uri, output_uri=output_uri, model=model, engine=engine, address=address, workers=workers,
        max_bad_share=max_bad_share, log=log, drift_report=drift_report,
    )  # fmt: skip
    services = flow_services()
    outcome = services.steps("score", lambda: score_step(services, request))
    manifest = outcome.result.manifest
    done = "was already complete" if outcome.result.already_done else "is complete"
    services.reporter.table(
        batch_summary(manifest), key="batch-result", description=f"{input_uri} {done}: {output_uri}"
    )
    return {
        "output": output_uri,
        "rows": manifest["rows"],
        "quarantined": manifest["quarantined"],
        **{name: manifest[name] for name in ("by_label", "by_sentiment") if name in manifest},
        "already_done": outcome.result.already_done,
        "drift": None if outcome.drift is None else list(outcome.drift),
    }
