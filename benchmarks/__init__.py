"""Benchmarks: `python -m benchmarks NAME`. Their clients call local servers, past any proxy."""

import os

from absa.proxies import keep_local_direct

keep_local_direct(os.environ)
