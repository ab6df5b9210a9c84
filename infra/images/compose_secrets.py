"""`python infra/images/compose_secrets.py FILE`: create the secrets of docker-compose.yml. Needs Python only."""

import json
import secrets
import sys
from pathlib import Path


def main() -> int:
    """Write a missing file, readable by its owner alone. Return the exit code."""
    if len(sys.argv) != 2:
        print("expected one argument: the file to write, such as .evergreen/compose.env", file=sys.stderr)  # noqa: T201
        return 2
    file = Path(sys.argv[1])
    if file.exists():
        return 0
    names = ("POSTGRES_PASSWORD", "EVERGREEN_ADMIN_TOKEN", "EVERGREEN_SECRET")
    lines = [f"{name}={secrets.token_hex(20)}" for name in names]
    keys = {secrets.token_hex(20): {"source": "customer"}}
    lines.append(f"EVERGREEN_FEEDBACK_KEYS={json.dumps(keys)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
