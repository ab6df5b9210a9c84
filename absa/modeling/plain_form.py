"""Names of files in the folder of a base model, in the form that `load_base` reads."""

from typing import Final

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
ENCODER_MARK: Final = "evergreen_separator"
"""Key in config.json of a rewritten encoder of transformers: id of the token after each part of a row."""
