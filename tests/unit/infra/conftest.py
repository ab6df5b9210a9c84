"""The synthesised templates."""

from pathlib import Path

import pytest

from tests.aws.synthesis import assembly, synthesised
from tests.aws.template import Template


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the cloud assembly."""
    return assembly(tmp_path_factory)


@pytest.fixture(scope="session", params=["dev", "prod"])
def template(request: pytest.FixtureRequest, cloud: Path) -> Template:
    """Each environment's template."""
    return Template(synthesised(cloud)[request.param])


@pytest.fixture(scope="session")
def prod(cloud: Path) -> Template:
    """The template of prod."""
    return Template(synthesised(cloud)["prod"])
