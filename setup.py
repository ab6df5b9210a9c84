"""Build that starts without the files of earlier ones: setuptools packs all of build/lib, deleted modules too."""

import shutil
from pathlib import Path

from setuptools import setup

earlier = Path(__file__).parent / "build" / "lib"
if earlier.exists():
    shutil.rmtree(earlier)
setup()
