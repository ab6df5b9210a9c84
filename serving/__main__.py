"""`python -m serving`: run one replica of the router; `--check` only checks its settings."""

import sys

from serving.process.replica import main

if __name__ == "__main__":
    sys.exit(main())
