"""Home that a command reads: it must exist, nothing is made in it, and the user sees which one it is."""

from pathlib import Path

from absa.errors import NotFoundError
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.platform.terminal import say


def open_home(*, required: bool = True, announced: bool = True) -> Services:
    """Return services that read an existing home, and print the home to stderr. Makes nothing.

    A lake elsewhere (EVERGREEN_LAKE) is enough: routers and operators of a cluster need no home folder.

    Args:
        required: whether the command is of no use without a home.
        announced: whether the home is printed.

    Raises:
        NotFoundError: there is neither a home nor a lake of its own, and one is required.
    """
    settings = Settings.load()
    if required and not is_there(settings):
        raise NotFoundError(absence(settings))
    if announced and settings.root.is_dir():
        say(f"home: {settings.root}", err=True)
    return build_services(settings, keep=False)


def is_there(settings: Settings) -> bool:
    """Return True if the home, or a lake outside of it, exists."""
    lake = settings.lake
    return settings.root.is_dir() or (lake is not None and (lake.startswith("s3://") or Path(lake).is_dir()))


def absence(settings: Settings) -> str:
    """Return the sentence for a home that does not exist."""
    return (
        f"there is no home at {settings.root}: `evergreen up` and `evergreen train FILE` make one, "
        "EVERGREEN_HOME names another folder"
    )
