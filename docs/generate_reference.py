"""Writes docs/reference from the code: `python docs/generate_reference.py [FOLDER]`; a test holds the pages against it.

Settings come from the two classes that read the environment, commands from Typer, the API from the OpenAPI document,
licences from what is installed.
"""

import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, cast

import typer
from pydantic_settings import BaseSettings
from typer.cli import get_docs_for_click

import flows.settings
import serving.settings
from flows.cli import app
from serving.api import Worker, build_app, document

REFERENCE = Path(__file__).resolve().parent / "reference"
_MADE = "<!-- made by docs/generate_reference.py -->\n\n"


def settings_page() -> str:
    """Every variable of flows and of the router."""
    page = (
        "# Settings\n\nEnvironment variables. `HOME` below is `EVERGREEN_HOME`, whose `settings.env` flows read too.\n"
    )
    for title, kind in (("Flows and command line", flows.settings.Settings), ("Router", serving.settings.Settings)):
        page += f"\n## {title}\n\n| variable | default | what |\n|---|---|---|\n"
        page += "".join(_setting(kind, name) for name in kind.model_fields)
    return _MADE + page


def _setting(kind: type[BaseSettings], name: str) -> str:
    field = kind.model_fields[name]
    default = field.get_default(call_default_factory=True)
    shown = "unset" if default is None else f"`{default}`" if str(default) else "empty"
    alias = "MLFLOW_TRACKING_URI" if field.validation_alias is not None else f"EVERGREEN_{name.upper()}"
    return f"| `{alias}` | {shown} | {field.description} |\n"


def command_page() -> str:
    """Every command with its options."""
    command = typer.main.get_command(app)
    page = get_docs_for_click(obj=command, ctx=typer.Context(command), name="evergreen")
    return _MADE + page.replace(f"{REFERENCE.parents[1]}/", "").rstrip() + "\n"


def api_page() -> str:
    """Every route of the router."""
    unused = cast(Any, None)
    worker = Worker(
        predict=unused, compare=unused, folder=Path(), spool=unused, keys=unused, state=unused, statuses=unused,
        set_plan=unused, ready=unused, body_limit_bytes=0,
    )  # fmt: skip
    api = document(build_app(worker))
    page = "# The router's API\n\nErrors are `application/problem+json`. The router itself serves this as `/docs`.\n"
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            page += (
                f"\n## {method.upper()} {path}\n\n{operation['summary']}. {operation.get('description', '')}".rstrip()
            )
            page += "\n\n| status | meaning |\n|---|---|\n"
            page += "".join(f"| {code} | {said['description']} |\n" for code, said in operation["responses"].items())
            page += _fields(api, operation)
    return _MADE + page


def _fields(api: dict[str, Any], operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    schema = content["schema"]
    first = schema["oneOf"][0] if "oneOf" in schema else schema
    named = api["components"]["schemas"][first["$ref"].rpartition("/")[2]]
    page = "\n| field | needed | what |\n|---|---|---|\n"
    for name, field in named["properties"].items():
        needed = "yes" if name in named.get("required", ()) else "no"
        page += f"| `{name}` | {needed} | {field.get('description', field.get('title', name))} |\n"
    return page


def licence_page() -> str:
    """Every package of requirements.txt with its licence, and what is shipped inside."""
    page = "# Licences\n\nEvergreen is under Apache-2.0 (LICENSE). It installs:\n\n"
    page += "| package | version | licence |\n|---|---|---|\n"
    for line in (REFERENCE.parents[1] / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name, separator, version = line.partition("==")
        if separator and not line.startswith(("#", "-")):
            page += f"| {name} | {version.split()[0]} | {_licence(name)} |\n"
    page += "\nInside the repository: plotly.js (MIT, serving/console), Mermaid (MIT, docs/javascripts).\n"
    return _MADE + page


def _licence(name: str) -> str:
    facts = distribution(name).metadata
    classified = [
        each.rpartition(" :: ")[2] for each in facts.get_all("Classifier", []) if each.startswith("License ::")
    ]
    said = facts.get("License-Expression") or ", ".join(classified) or facts.get("License") or "see its files"
    return said.strip().splitlines()[0][:60].replace("|", "/")


def pages() -> dict[str, str]:
    """The pages by file name."""
    return {
        "settings.md": settings_page(),
        "commands.md": command_page(),
        "api.md": api_page(),
        "licences.md": licence_page(),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else REFERENCE
    folder.mkdir(exist_ok=True)
    for file_name, content in pages().items():
        (folder / file_name).write_text(content, encoding="utf-8")
