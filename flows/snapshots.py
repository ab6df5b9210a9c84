"""Which snapshots the lake has."""

from absa.adapters.lake import Lake
from absa.data.snapshot import Manifest


def latest_manifest(lake: Lake) -> Manifest | None:
    """The newest snapshot, or None in an empty lake."""
    keys = [key for key in lake.list("snapshots/") if key.endswith("/manifest.json")]
    manifests = [Manifest.from_json(lake.read(key)) for key in keys]
    return max(manifests, key=lambda manifest: manifest.created_at, default=None)
