"""Command `evergreen gate`: judge one package against another, in continuous integration or by hand."""

from pathlib import Path
from typing import Annotated, Final

import typer

from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import GateFacts
from flows.platform import arguments
from flows.platform.services import open_home

_MEANINGS: Final = {
    "PROMOTE": "The candidate is better, or not worse and cheaper; nothing was registered or recorded (exit code 0)",
    "HOLD": "No difference is proven yet; nothing was registered or recorded (exit code 4)",
    "REJECT": "The candidate failed a check; nothing was registered or recorded (exit code 5)",
}
_FOLLOWING: Final = {
    "PROMOTE": "evergreen promote VERSION for a registered version",
    "HOLD": "add labelled rows, or use a larger --data file",
    "REJECT": "read the failed checks, correct the rows or the recipe, and train again",
}


def gate_command(
    candidate: Annotated[
        str, typer.Argument(callback=arguments.given_text, help="Version number, or folder of a package.")
    ],
    champion: Annotated[
        str, typer.Argument(callback=arguments.given_text, help="Version number or folder to compare with.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            callback=arguments.existing_file,
            help="Labelled file to judge on, whose rows were not trained on; unset: test rows of the newest snapshot.",
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown page, for a pull request.")] = False,
) -> CommandResult[GateFacts]:
    """Judge a candidate against a champion. Exit code 0 for PROMOTE, 4 for HOLD, 5 for REJECT."""
    from flows.batch.gate_packages import gate_packages

    folders = data is not None and Path(candidate).is_dir() and Path(champion).is_dir()
    services = open_home(required=not folders)
    pair = gate_packages(services, candidate, champion, data=data)
    facts = pair.to_json()
    verdict = pair.decision.verdict
    return CommandResult(
        facts={
            "verdict": verdict,
            "reasons": facts["reasons"],
            "candidate": pair.candidate,
            "champion": pair.champion,
            "rows_from": pair.rows_from,
            "grounds": facts["grounds"],
            "checks": facts["checks"],
            "evidence": facts["evidence"],
        },
        lines=(*pair.markdown().splitlines(), "") if markdown else tuple(pair.lines()),
        meaning=_MEANINGS[verdict],
        following=_FOLLOWING[verdict],
        code=pair.code,
    )
