"""`python -m serving`: one replica of the router."""

import sys

from serving.replica import main

if __name__ == "__main__":
    sys.exit(main())
