"""Words of the default task, which no message of a plain-text home may have."""

import re
from typing import Final

_OF_DEFAULT_TASK: Final = re.compile(r"\w*(?:aspect|sentiment|opinion|neutral|pos.?neg)\w*", re.IGNORECASE)


def words_of_default_task(said: str) -> list[str]:
    """Return the words in a message, page or record that speak of aspects or sentiments."""
    return _OF_DEFAULT_TASK.findall(said)
