"""Maker of docs/reference: `python docs/generate_reference.py [FOLDER]`; a test compares the pages with the code.

Settings come from the two classes that read the environment, commands from Typer, the API from the OpenAPI document,
licences from what is installed.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

import typer
from packaging.requirements import Requirement
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from structure_picture import structure_svg
from typer.cli import get_docs_for_click
from typer.main import get_command

from absa.configuration import FROM_FILE, SECTIONS
from absa.policies import LONGEST_S, RouterTuning
from absa.profiles import PROFILES, differences
from absa.router_settings import RouterSettings
from absa.task import ABSA
from absa.variables import KEYS
from flows.cli.commands import app
from flows.cli.output.command_result import facts_of
from flows.platform.processes import parts
from flows.platform.settings import Settings
from serving.console.console_routes import add_console
from serving.http.api import WorkerPorts, build_api
from serving.http.bodies import BodiesByTask
from serving.http.docs_page import document

REFERENCE = Path(__file__).resolve().parent / "reference"
_MADE = "<!-- made by docs/generate_reference.py -->\n\n"
_LOCAL = "the local one"
_OTHERS = (
    ("EVERGREEN_PART", "set by `evergreen up`", "Part that a process belongs to; marks leftovers of a dead part."),
    (
        "EVERGREEN_UNUSABLE_PROXIES",
        "set by every command",
        "Proxies that no client here can use; they are taken out of the environment of child processes.",
    ),
    (
        "MLFLOW_TRACKING_URI",
        _LOCAL,
        "MLflow server of flows, commands and `absa/src/evaluation.py`, which has no local default.",
    ),
    ("MLFLOW_TRACKING_TOKEN", "unset", "Bearer token for that server."),
    ("MLFLOW_BACKEND_STORE_URI", "SQLite in `HOME/mlflow`", "Database of the local MLflow."),
    ("MLFLOW_ARTIFACTS_DESTINATION", "`HOME/mlflow/artifacts`", "Folder of the local MLflow's files."),
    ("PREFECT_API_URL", _LOCAL, "Prefect server of flows and commands."),
    (
        "HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY",
        "unset",
        "Proxies, in either case of letters; every process adds 127.0.0.1, localhost and ::1 to `NO_PROXY`.",
    ),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "unset",
        "Collector that gets one span per prediction; or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.",
    ),
    ("OTEL_SERVICE_NAME", "`evergreen-router`", "Service that the spans name."),
)
_UP = {
    "EVERGREEN_ROUTER_HOST": "`EVERGREEN_HOST`",
    "EVERGREEN_ROUTER_PORT": "as above, from 8080 on",
    "EVERGREEN_WORKERS": "as flows have it",
    "EVERGREEN_ADMIN_TOKEN": "`admin_token` of `HOME/secrets.json`",
    "EVERGREEN_SECRET": "`unit_secret` of `HOME/secrets.json`",
    "EVERGREEN_FEEDBACK_KEYS": "`feedback_key` of `HOME/secrets.json`: source customer",
    "EVERGREEN_LINKS": "the local Prefect, MLflow and Evidently",
    "EVERGREEN_QUEUE_MS": "`1000`: trainings share the cores",
}


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_SETTINGS = """# Settings

Three places, the first wins: environment variables, the sections of `evergreen.toml`, the profile. `HOME` is
`EVERGREEN_HOME`. Every variable but `EVERGREEN_HOME` and `EVERGREEN_CONFIG` has a key in `evergreen.toml`.
`evergreen config` prints every effective value and its origin. A `HOME/settings.env` of release 0.1 is read after the
environment; `evergreen up` and `evergreen config --migrate` [move it](../operate/upgrade.md) into `evergreen.toml`.

Every command but `down` checks all of them when it starts, and the router its own. These are errors: a value outside
its range, values that do not fit each other, an unknown section or key, an empty `EVERGREEN_HOME`, `EVERGREEN_LAKE` or
`EVERGREEN_CONFIG`, and a variable that starts with `EVERGREEN_` and is not listed here. `evergreen up` and
`evergreen doctor` check the router's too.
"""
_SECTIONS = """
## evergreen.toml

Flows and router read the file that `EVERGREEN_CONFIG` names, or `evergreen.toml` in the working folder or in `HOME`.
`evergreen init FILE` writes sections `[task]` and `[data]`.

```toml
profile = "small"

[experiment]
ramp = [0.05, 0.25]      # shares of the challenger
step_s = 3600

[trust]
train = ["customer", "labels"]

[alerts]
url = "https://hooks.example/evergreen"
```

The tables above name the section and key of each setting. Where the file is shared, keep secrets in the environment.

### [task]

Task of the home. Without this section: aspect-based sentiment.

| key | default | what |
|---|---|---|
| `name` | required | Name of the registered model: lower-case letters, digits, - and _. |
| `input` | required | Input of the model: `text`, `text+aspect` (a phrase of the text) or `text+topic` (any phrase). |
| `labels` | required | 2 to 127 names in the order of the scores; a home can append more. |
| `evaluated` | all labels | Labels in the primary metric, the mean of their F1. |

### [data]

Form of data files. Each key but the last two names a column, in any case.

| key | default | what |
|---|---|---|
| `text` | `text` | Text to classify. |
| `aspect`, `topic` | `aspect`, `topic` | Phrase that the label is about, for tasks that have one. |
| `label` | `label` | Label: a name or number of `[task]`, or a value of `[data.labels]`. |
| `observed_at` | `observed_at` | Time; `{column = "Date", format = "%d/%m/%Y"}` for another form than ISO 8601. |
| `segment` | `segment` | Short name that measures are split by. |
| `source` | `source` | Source of the label. |
| `unit` | `unit` | Account or user; its hash is kept, so that `evergreen forget --unit` finds its rows. |
| `file` | unset | Data file that a first training reads. |
| `[data.labels]` | names and numbers | Label of each value of the file. |
"""
_PROFILES = """
## Profiles

`EVERGREEN_PROFILE`, or `profile = "..."` in evergreen.toml. Variables and sections win over the profile.

| profile | changes |
|---|---|
"""


def settings_page() -> str:
    """Return every variable, section and profile, and the variables that `evergreen up` sets for its router."""
    page = _SETTINGS
    for title, kind in (("Flows and command line", Settings), ("Router", RouterSettings)):
        page += f"\n## {title}\n\n| variable | key of evergreen.toml | default | what |\n|---|---|---|---|\n"
        page += "".join(_setting(kind, name) for name in kind.model_fields if name not in FROM_FILE)
    page += _SECTIONS
    for section, policy in SECTIONS.items():
        page += f"\n### [{section}]\n\n{_sentence(policy)}\n\n| key | default | what |\n|---|---|---|\n"
        page += "".join(_key(name, field) for name, field in policy.__pydantic_fields__.items() if field.description)
    page += _PROFILES + "".join(
        f"| `{name}` | {', '.join(f'`{each}`' for each in differences(name)) or 'nothing'} |\n" for name in PROFILES
    )
    page += "\n## Read beside these\n\n| variable | default | what |\n|---|---|---|\n"
    page += "".join(f"| `{name}` | {default} | {what} |\n" for name, default, what in _OTHERS)
    page += (
        "\n## Settings that `evergreen up` passes to its router\n\nValues of the environment or of `evergreen.toml` "
        "win, except for the port.\n\n| variable | value |\n|---|---|\n"
    )
    page += "".join(f"| `{name}` | {_UP[name]} |\n" for name in _told_to_the_router())
    return _MADE + page


def _sentence(policy: type[Any]) -> str:
    return str(policy.__doc__).partition("\n\n")[0].replace("\n", " ")


def _key(name: str, field: FieldInfo) -> str:
    limits = [f"{_SIGNS[kind]} {value:g}" for each in field.metadata for kind, value in _bounds(each)]
    allowed = f" ({', '.join(limits)})" if limits else ""
    default = field.default
    shown = "unset" if default is None else f"`{list(default) if isinstance(default, tuple) else default}`"
    return f"| `{name}` | {shown} | {field.description}{allowed} |\n"


def _bounds(limit: object) -> Iterator[tuple[str, float]]:
    yield from ((kind, getattr(limit, kind)) for kind in _SIGNS if getattr(limit, kind, LONGEST_S) != LONGEST_S)


def _told_to_the_router() -> list[str]:
    with tempfile.TemporaryDirectory() as home:
        return list(parts(Settings(home=Path(home)), {})["router"].environment)


def _setting(kind: type[BaseSettings], name: str) -> str:
    field = kind.model_fields[name]
    default = field.get_default(call_default_factory=True)
    shown = "unset" if default is None else "empty" if default in ("", ()) else f"`{default}`"
    alias = f"EVERGREEN_{name.upper()}"
    section, key = KEYS.get(name.upper(), ("", "profile" if name == "profile" else ""))
    place = f"`[{section}] {key}`" if section else f"`{key}`" if key else ""
    return f"| `{alias}` | {place} | {shown} | {field.description} |\n"


_API = """# The router's API

A key comes as `X-API-Key: KEY` or `Authorization: Bearer KEY`. Predictions and comparisons ask for one where
`EVERGREEN_PREDICT_KEY` is set, feedback for one of `EVERGREEN_FEEDBACK_KEYS`, a new plan for `EVERGREEN_ADMIN_TOKEN`;
after `evergreen up` the last two are `feedback_key` and `admin_token` in `HOME/secrets.json`.

Errors are `application/problem+json`: `type`, `title`, `status`, `detail`, and `errors` where fields are to blame.
HEAD works where GET does. A body comes plain, without Content-Encoding; an offer to upgrade the connection is ignored.
Web pages may call the router from the origins in `EVERGREEN_CORS_ORIGINS`. The router itself serves this as `/docs`.
"""


def command_page() -> str:
    """Return every command with its options; commands of a group are listed in their group only."""
    command = cast(Any, typer.main.get_command(app))
    command.commands = {name: each for name, each in command.commands.items() if not each.hidden}
    page = get_docs_for_click(obj=command, ctx=typer.Context(command), name="evergreen")
    return _MADE + page.replace(f"{REFERENCE.parents[1]}/", "").rstrip() + "\n"


def api_page() -> str:
    """Return every route of the router."""
    unused = cast(Any, None)
    limits = RouterTuning()
    bodies = BodiesByTask(max_text_chars=limits.max_text_chars, max_instances=limits.max_instances)
    worker = WorkerPorts(
        task=unused, home_task=ABSA, bodies=bodies, spool=unused, keys=unused, state=unused, statuses=unused,
        set_plan=unused, ready=unused, body_limit_bytes=0,
    )  # fmt: skip
    routes = build_api(worker)
    add_console(
        routes, folder=Path(), statuses=unused, state=unused, task=unused, compare=unused, links={}, body_limit_bytes=0
    )
    api = document(routes, bodies.of(ABSA))
    page = _API
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
    """Return the fields of body and answer, if the document has them, and an example."""
    page = ""
    if asked := _json_of(operation.get("requestBody", {})):
        kinds = _kinds(api, asked["schema"])
        page += "\n| field | needed | what |\n|---|---|---|\n"
        page += "".join(
            f"| `{name}` | {'yes' if needed else 'no'} | {what} |\n" for name, needed, what in _rows(api, kinds[0])
        )
        examples = [
            asked["example"],
            *({name: [asked["example"]] for name in kind["properties"]} for kind in kinds[1:]),
        ]
        page += "".join(f"\n```json\n{json.dumps(example)}\n```\n" for example in examples)
    for said in operation["responses"].values():
        if answered := _json_of(said):
            kinds = _kinds(api, answered["schema"])
            if kinds[0]["title"] == "ProblemBody":
                continue
            page += f"\n{kinds[0]['description']}\n\n| field of the answer | what |\n|---|---|\n"
            page += "".join(f"| `{name}` | {what} |\n" for name, _, what in _rows(api, kinds[0]))
            page += "".join(
                f"\nOr `{name}`: {kind['description']}\n" for kind in kinds[1:] for name in kind["properties"]
            )
    return page


def _json_of(body: dict[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = body.get("content", {}).get("application/json")
    return found


def _kinds(api: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [_named(api, each) for each in schema.get("oneOf", [schema])]


def _named(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return named


def _rows(api: dict[str, Any], kind: dict[str, Any], inside: str = "") -> list[tuple[str, bool, str]]:
    """Return (name, True if required, description) of each field and of the fields inside it."""
    found = []
    for name, field in kind["properties"].items():
        deeper = next((_named(api, each) for each in (field, field.get("items", {})) if "$ref" in each), None)
        found.append((inside + name, name in kind.get("required", ()), _what(field, deeper or {})))
        if deeper:
            found += _rows(api, deeper, f"{inside}{name}{'[]' if 'items' in field else ''}.")
    return found


def _what(field: dict[str, Any], deeper: dict[str, Any]) -> str:
    if said := field.get("description", deeper.get("description")):
        return str(said)
    if values := field.get("enum"):
        return ", ".join(map(str, values))
    types = [each["type"] for each in field.get("anyOf", [field])]
    default = f"; default `{field['default']}`" if field.get("default") else ""
    return " or ".join(types) + default


def licence_page() -> str:
    """Return every package of requirements.txt with its licence, and the shipped files with theirs."""
    page = "# Licences\n\nEvergreen is under Apache-2.0 (LICENSE). It installs:\n\n"
    page += "| package | version | licence |\n|---|---|---|\n"
    for line in (REFERENCE.parents[1] / "requirements.txt").read_text(encoding="utf-8").splitlines():
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate():
            page += f"| {pin.name} | {str(pin.specifier).removeprefix('==')} | {_licence(pin.name)} |\n"
    page += "\nInside the repository: plotly.js (MIT, serving/console), Mermaid (MIT, docs/javascripts).\n"
    return _MADE + page


def _licence(name: str) -> str:
    facts = distribution(name).metadata
    classified = [
        each.rpartition(" :: ")[2] for each in facts.get_all("Classifier", []) if each.startswith("License ::")
    ]
    said = facts.get("License-Expression") or ", ".join(classified) or facts.get("License") or "see its files"
    return said.strip().splitlines()[0][:60].replace("|", "/")


_JSON = """# JSON of commands

Each command but `demo` takes `--json`: it prints one JSON value to standard output instead of its lines; progress and
errors go to standard error, and exit codes stay. Keys stay too: a release adds keys, and removes or renames none
without a line in the changelog. Times are ISO 8601 in UTC.

"""


def json_page() -> str:
    """Return the keys of every command's JSON, from the types of its facts."""
    page = _JSON
    for words, command in _commands(get_command(app), ()):
        facts = facts_of(command.callback)
        if facts is None:
            continue
        listed = get_origin(facts) is list
        row = get_args(facts)[0] if listed else facts
        said = (row.__doc__ or "").splitlines()[0]
        page += f"## `evergreen {' '.join(words)}`\n\n{'List of objects: ' if listed else ''}{said}\n\n"
        page += "| key | what |\n|---|---|\n"
        for key, kind in get_type_hints(row, include_extras=True).items():
            page += f"| `{key}` | {kind.__metadata__[0]} |\n"
        page += "\n"
    return _MADE + page.rstrip() + "\n"


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each visible command once, with the words that call it."""
    if words:
        yield words, command
    for name, each in getattr(command, "commands", {}).items():
        if not each.hidden:
            yield from _commands(each, (*words, name))


def pages() -> dict[str, str]:
    """Return the pages, and the picture of the rooms, by file name."""
    return {
        "settings.md": settings_page(),
        "commands.md": command_page(),
        "json.md": json_page(),
        "api.md": api_page(),
        "licences.md": licence_page(),
        "structure.svg": structure_svg(REFERENCE.parents[1]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=REFERENCE, help="Folder to write to.")
    folder: Path = parser.parse_args().folder
    folder.mkdir(exist_ok=True)
    for file_name, content in pages().items():
        (folder / file_name).write_text(content, encoding="utf-8")
