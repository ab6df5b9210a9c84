"""MLflow's server with a changed start page: it has no telemetry and opens the registered model.

MLflow 3.17 shows the notice "MLflow collects usage data" and an active telemetry switch, also if
MLFLOW_DISABLE_TELEMETRY is true. Both depend only on values in the browser's local storage. So the start page sets
these values before MLflow reads them.
`python -m flows.platform.mlflow_server` takes the options of `mlflow server`.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from os import PathLike

APP: Final = "evergreen"
_STORED: Final = {"mlflow.telemetry.info.alert.dismissed_v1": "true", "mlflow.settings.telemetry.enabled_v1": "false"}
_OPEN_MODEL: Final = """
if (["", "#/"].includes(location.hash))
  fetch("ajax-api/2.0/mlflow/registered-models/search?max_results=2").then((answer) => answer.json()).then((found) => {
    const models = found.registered_models || [];
    const one = models.length === 1 ? "/" + encodeURIComponent(models[0].name) : "";
    if (["", "#/"].includes(location.hash)) location.hash = "#/models" + one;
  }, console.warn);
"""
_METADATA: Final = {
    "METADATA": f"Metadata-Version: 2.1\nName: {APP}-mlflow-app\nVersion: 0\n",
    "entry_points.txt": f"[mlflow.app]\n{APP} = flows.platform.mlflow_server:make_app\n",
}


def quiet_page(page: str) -> str:
    """Return MLflow's start page with a script that turns telemetry off. Pure.

    The script stores in the browser that telemetry is off and that its notice was read. Then it opens the registered
    model, or the list of models if there is none or more than one.
    """
    stored = "".join(f"localStorage.setItem('{name}', '{value}');" for name, value in _STORED.items())
    return page.replace("<head>", f"<head><script>{stored}{_OPEN_MODEL}</script>", 1)


def make_app() -> Any:
    """Return MLflow's app for uvicorn, with the changed start page if telemetry is disabled."""
    from flask import Response
    from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY
    from mlflow.server import app as pages
    from mlflow.server.fastapi_app import app

    if MLFLOW_DISABLE_TELEMETRY.get():
        page = quiet_page(Path(pages.static_folder, "index.html").read_text(encoding="utf-8"))
        headers = {"Cache-Control": "no-cache"}
        pages.view_functions["serve"] = lambda: Response(page, mimetype="text/html", headers=headers)
    return app


class _Announced(Distribution):
    """Distribution with the entry point of this app.

    A container image holds this code without an installed package, so no real distribution declares the entry point.
    """

    def read_text(self, filename: str) -> str | None:
        """Return the content of a metadata file."""
        return _METADATA.get(filename)

    def locate_file(self, path: "str | PathLike[str]") -> Path:
        """Return the path unchanged: the distribution has no files."""
        return Path(path)


class _Finder(DistributionFinder):
    def find_spec(self, *_: Any) -> None:
        """Find no module."""

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        """Yield the distribution of this app."""
        if context is None or context.name in {None, f"{APP}-mlflow-app"}:
            yield _Announced()


def main() -> None:
    """Run `mlflow server` with the changed start page."""
    sys.meta_path.append(_Finder())
    from mlflow.cli import cli  # its import reads the entry points

    cli(["server", "--app-name", APP, *sys.argv[1:]])


if __name__ == "__main__":
    main()
