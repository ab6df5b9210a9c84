"""Flow batch: score a file with a registered version; rows in order, bad rows in quarantine, a manifest beside them."""

import json
from typing import Annotated, Any

import pyarrow as pa
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from absa.adapters.lake import write_parquet
from absa.errors import PermanentError
from absa.labels import SENTIMENTS
from absa.schema import SCHEMA_VERSION, iso, utc_now
from flows.wiring import Services, wire


@task(name="score", cache_policy=NO_CACHE)
def score_file(services: Services, path: str, version: str, digest: str, job_id: str) -> dict[str, Any]:
    """Score every valid row of a file into batch/<job id>/ of the lake.

    Raises:
        InvalidDataError: the file cannot be read.
    """
    from absa.data.read import read_examples
    from absa.inference.engine import Engine

    rows, quarantine = read_examples(path, require_label=False)
    engine = Engine.load(services.package(version, digest))
    scores = engine.score(list(zip(rows["text"], rows["aspect"], strict=True)))
    labels = scores.argmax(axis=1) if len(scores) else scores.reshape(0)
    scored_at = utc_now()
    table = rows.select("text", "aspect").to_arrow()
    table = (
        table.append_column("label", pa.array(labels, pa.int8()))
        .append_column("scores", pa.array(scores.tolist(), pa.list_(pa.float32(), len(SENTIMENTS))))
        .append_column("model_version", pa.array([version] * len(rows), pa.string()))
        .append_column("scored_at", pa.array([scored_at] * len(rows), pa.timestamp("us", tz="UTC")))
    )
    write_parquet(services.lake, f"batch/{job_id}/part-00000.parquet", table)
    if quarantine.rows.height:
        bad = quarantine.rows.to_arrow()
        write_parquet(services.lake, f"batch/{job_id}/quarantine/part-00000.parquet", bad)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "input": path,
        "model_version": version,
        "digest": digest,
        "rows": rows.height,
        "quarantined": quarantine.rows.height,
        "by_sentiment": {name: int((labels == label).sum()) for label, name in enumerate(SENTIMENTS)},
        "scored_at": iso(scored_at),
    }
    services.lake.write(f"batch/{job_id}/manifest.json", json.dumps(manifest, indent=1).encode())
    return manifest


@flow(name="batch", flow_run_name="batch-{job_id}")
def batch(
    path: Annotated[str, Field(description="CSV, JSONL or Parquet with text and aspect.")],
    job_id: Annotated[str, Field(description="Names the result: batch/<job id>/ in the lake.")],
    version: Annotated[str | None, Field(description="Registry version; unset: the champion.")] = None,
) -> dict[str, Any]:
    """Score a file with a registered version."""
    services = wire()
    head = services.head()
    chosen = version or head.state.champion
    if chosen is None or chosen not in head.versions:
        raise PermanentError(f"the ledger knows no version {chosen}; versions: {', '.join(head.versions) or 'none'}")
    manifest = score_file(services, path, chosen, head.versions[chosen], job_id)
    create_table_artifact([manifest["by_sentiment"]], key="batch-result", description=f"{manifest['rows']} rows scored")
    return manifest
