"""`python -m infra.restore s3://bucket/prefix --at TIME`: restore a versioned prefix to its state at a time.

Objects that were deleted or overwritten after that time get their old content as a new version. Objects that were made
after that time get a delete marker; `--keep-new` leaves them. No version is deleted, so a second restore undoes the
first.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlparse


@dataclass(frozen=True, kw_only=True)
class Change:
    """Change of a key: `version` becomes the newest one; None deletes the key."""

    key: str
    version: str | None


def changes(entries: Sequence[dict[str, Any]], at: datetime, *, keep_new: bool = False) -> Iterator[Change]:
    """Return the changes that restore keys. Pure.

    Args:
        entries: versions and delete markers of S3, each key's newest first; `gone` marks the delete markers.
        at: time of the state to restore.
        keep_new: True to keep keys that did not exist then.
    """
    by_key: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_key.setdefault(entry["Key"], []).append(entry)
    for key, versions in by_key.items():
        now = versions[0]
        then = next((each for each in versions if each["LastModified"] <= at), None)
        if then is None or then["gone"]:
            if not now["gone"] and not (keep_new and then is None):
                yield Change(key=key, version=None)
        elif then["VersionId"] != now["VersionId"]:
            yield Change(key=key, version=then["VersionId"])


def restore(s3: Any, uri: str, at: datetime, *, keep_new: bool = False, dry_run: bool = False) -> list[Change]:
    """Carry out the changes and return them; with `dry_run`, only return them."""
    parsed = urlparse(uri)
    if parsed.scheme != "s3" or not parsed.netloc:
        raise ValueError(f"expected s3://bucket/prefix, got {uri!r}")
    bucket, prefix = parsed.netloc, parsed.path.lstrip("/")
    entries: list[dict[str, Any]] = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        entries += [{**each, "gone": False} for each in page.get("Versions", [])]
        entries += [{**each, "gone": True} for each in page.get("DeleteMarkers", [])]
    entries.sort(key=lambda each: (each["LastModified"], each["IsLatest"]), reverse=True)
    found = list(changes(entries, at, keep_new=keep_new))
    for change in () if dry_run else found:
        if change.version is None:
            s3.delete_object(Bucket=bucket, Key=change.key)
        else:
            source = {"Bucket": bucket, "Key": change.key, "VersionId": change.version}
            s3.copy_object(Bucket=bucket, Key=change.key, CopySource=source)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    parser = argparse.ArgumentParser(prog="python -m infra.restore", description=__doc__)
    parser.add_argument("uri", help="s3://bucket/prefix of a versioned bucket")
    parser.add_argument("--at", required=True, help="ISO 8601 time; UTC if it has no time zone")
    parser.add_argument("--keep-new", action="store_true", help="keep objects that did not exist then")
    parser.add_argument("--dry-run", action="store_true", help="print the changes and change nothing")
    chosen = parser.parse_args(arguments)
    try:
        at = datetime.fromisoformat(chosen.at)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        found = restore(boto3.client("s3"), chosen.uri, at, keep_new=chosen.keep_new, dry_run=chosen.dry_run)
    except (ValueError, BotoCoreError, ClientError) as error:
        print(f"restore: {error}", file=sys.stderr)  # noqa: T201
        return 1
    for change in found:
        print(f"{'back ' if change.version else 'gone '} {change.key}")  # noqa: T201
    print(f"{len(found)} keys{' would change' if chosen.dry_run else ' changed'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
