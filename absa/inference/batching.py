"""Groups of rows that share a forward pass: rows of similar length, within a budget of tokens.

Padding costs time. On a CPU a batch that is padded to its longest row can be slower than single rows (MiniLM-L6 int8 on
rows of 21 tokens: 525 rows/s one by one, 760 in sorted batches of 32, 189 in unsorted batches of 32).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from absa.inference.tokenization import Encoded

TOKEN_BUDGET: Final = 256
MAX_PADDING: Final = 0.1


def group_by_length(
    lengths: Sequence[int], token_budget: int = TOKEN_BUDGET, *, max_padding: float = MAX_PADDING
) -> list[list[int]]:
    """Cut rows into groups; each group can be padded to its longest row and scored at once.

    Every index is in exactly one group. Groups of shorter rows come first. Equal input gives equal groups.

    Args:
        lengths: number of tokens of each row, at least 1.
        token_budget: largest number of tokens of a group, padding included. A longer row gets its own group.
        max_padding: largest padding as a share of a group's tokens, 0 to 1.
    """
    groups: list[list[int]] = []
    real = 0  # tokens of the open group without padding
    for index in sorted(range(len(lengths)), key=lambda each: lengths[each]):
        length = lengths[index]
        if groups:
            padded = (len(groups[-1]) + 1) * length  # rows are in ascending length, so this row is the longest
            if padded <= token_budget and padded - real - length <= max_padding * padded:
                groups[-1].append(index)
                real += length
                continue
        groups.append([index])
        real = length
    return groups


def padded(rows: Sequence[Encoded]) -> dict[str, npt.NDArray[np.int64]]:
    """Return a model's inputs (n, tokens) for rows that share a forward pass, padded with 0 to the longest row."""
    shape = (len(rows), max(row.tokens for row in rows))
    feeds = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    for index, row in enumerate(rows):
        feeds["input_ids"][index, : row.tokens] = row.input_ids
        feeds["attention_mask"][index, : row.tokens] = 1
        feeds["token_type_ids"][index, : row.tokens] = row.token_type_ids
    return feeds
