"""Warning of commands that write into a demo's home."""

from absa.config_file import is_demo_home
from flows.platform.settings import Settings


def demo_warning(settings: Settings) -> str | None:
    """Return the sentence for a home that a demo made; None for any other home."""
    if not is_demo_home(settings.root):
        return None
    return (
        f"warning: {settings.root} is a demo's home: it holds sample data, its policies are shortened, and "
        "`evergreen demo --reset` deletes it; `export EVERGREEN_HOME=$PWD/my-home` gives your data a home of their own"
    )
