"""Name of a replica and secret of its unit hashes: from the settings, or generated once and kept in the home."""

import re
import secrets
import socket
from pathlib import Path
from typing import Final

from absa.records.files import write_whole
from absa.router_settings import RouterSettings

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_CHARS: Final = 60


def replica_name(settings: RouterSettings) -> str:
    """Return the replica's name from the settings or the home. It is safe as part of a file name."""
    if settings.replica:
        return _UNSAFE.sub("-", settings.replica)[:_NAME_CHARS]
    made = f"{_UNSAFE.sub('-', socket.gethostname())[: _NAME_CHARS - 7]}-{secrets.token_hex(3)}"
    return _kept(settings.folder / "replica", made)


def unit_secret(settings: RouterSettings) -> bytes:
    """Return the secret for hashing unit ids, from the settings or the home.

    Replicas on several machines need the same EVERGREEN_SECRET. Otherwise a unit has a different hash on each.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    return _kept(settings.folder / "secret", secrets.token_hex(32)).encode()


def _kept(path: Path, value: str) -> str:
    """Return the content of a file. If the file is missing, create it with `value`, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(path, value + "\n", mode=0o600, create=True)
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip() or value
    return value
