"""Pages that a reader can follow, and the steps that run their commands, with values for placeholders.

A step applies to the commands in which its pattern is found. The first matching step counts; steps of the page come
before the common steps. A command without a step is run unchanged. `before` has the actions of the reader before the
command.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from docs.checks.documented_commands import Block, statements

_CRON: Final = re.compile(r"^(?:[\d*/,-]+ ){5}(.+)$")
_DEADLINE_S: Final = 240.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """Way to run the commands in which a pattern is found.

    Attributes:
        match: pattern.
        before: shell commands that run first; they have to succeed.
        not_run: reason why the command is not run; empty: it is run.
        foreground: pattern of the output after which the reader goes on while the command runs; empty: it ends.
        codes: exit codes that the page names as results.
        installs: True for a command that downloads packages; it runs with --install only.
    """

    match: str
    before: str = ""
    not_run: str = ""
    foreground: str = ""
    codes: tuple[int, ...] = (0,)
    installs: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """Page, run from its first command to its last in one folder.

    Attributes:
        path: path from the root of the repository.
        steps: steps for its commands.
        values: patterns and the values that a reader puts in their place; shell variables of `before` may be used.
        spans: commands in its text and tables; they are run after its blocks.
    """

    path: str
    steps: tuple[Step, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    spans: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedCommand:
    """Command of a page, ready to run.

    Attributes:
        text: text of the command in the page.
        typed: the text with values for its placeholders.
        step: step that runs it.
        block: number of its block; the last for spans.
        section: heading above it.
        deadline_s: seconds that it may take.
    """

    text: str
    typed: str
    step: Step
    block: int
    section: str
    deadline_s: float = _DEADLINE_S


_TRAINED: Final = "evergreen init tickets.csv && evergreen train --budget 20"
_SERVED: Final = f"{_TRAINED} && evergreen serve --detach && ask 40 && sleep 2"  # seconds until the log is in the lake
_SAMPLE: Final = "absa/data/sample/feedback.csv"
_LABEL: Final = "billing"
_TRIED: Final = "until evergreen status | grep '^promotion'; do sleep 1; done"  # the experiment has started

COMMON: Final = (
    Step(match=r"\bdocker\b|make compose|^inside\b", not_run="needs Docker"),
    Step(match=r"^(kubectl|helm)\b", not_run="needs a Kubernetes cluster"),
    Step(match=r"\b(systemctl|journalctl)\b", not_run="needs systemd and root"),
    Step(match=r"^(make (install|ray)|uv (tool|build)|uvx|pipx|pip install)\b", installs=True),
    Step(match=r"^make test\b", not_run="CI runs it; it takes longer than all pages"),
    Step(match=r"evergreen serve$", foreground="Ctrl-C stops it"),
)
VALUES: Final = (
    (r"--budget \d+", "--budget 20"),
    (r"(evergreen (?:train|lab distill)\b(?!.*--budget).*)", r"\1 --budget 20"),
    (r"--seconds \d+", "--seconds 15"),
    (r"127\.0\.0\.1:8080", "127.0.0.1:$EVERGREEN_ROUTER_PORT"),
    (r"/mnt/backups/", "$HOME/backups/"),
    (r"/srv/", "$HOME/srv/"),
    (r"^make demo$", "make demo SCALE=tiny KEEP=0"),
)
PAGES: Final = (
    Page(
        path="README.md",
        steps=(
            Step(match=r"evergreen rollback$", before=_TRIED),
            Step(match=r"^curl \S+ \S+/v1/predict", before="evergreen serve --detach"),
        ),
        spans=("evergreen batch --input reviews.csv --output scored/", "evergreen ledger", "evergreen cost"),
    ),
    Page(
        path="docs/tutorial.md",
        steps=(
            Step(match=r"/v1/feedback", before='export KEY="$(feedback_key)" ID="$(field request_id)"'),
            Step(match=r"rollback --reason", before=_TRIED),
            Step(match=r"predict .*'battery'", not_run="for a task with aspects or topics, which tickets.csv is not"),
        ),
        values=(("ID OF THE ANSWER", "'$ID'"), ("X-API-Key: KEY", "X-API-Key: '$KEY'")),
    ),
    Page(
        path="docs/installation.md",
        steps=(
            Step(
                match=r"^pip install --no-deps",
                before='uv build --wheel && python -m venv "$HOME/router" && export PATH="$HOME/router/bin:$PATH"',
                installs=True,
            ),
            Step(match=r"^python -m serving", foreground="http", installs=True),
        ),
        values=((r"evergreen-\*\.whl", "dist/evergreen-*.whl"),),
    ),
    Page(
        path="docs/how_to.md",
        steps=(
            Step(
                match=r"promote 8$",
                before=f"{_SERVED} && evergreen train later.csv --budget 20",
                foreground="Ctrl-C stops it",
                codes=(0, 1, 130),
            ),
            Step(match=r"labels import", before=f"label queue.csv '{_LABEL}'"),
        ),
        values=((r"promote 8", "promote 2"),),
    ),
    Page(
        path="docs/how_to_data.md",
        steps=(
            Step(match=r"data drop", before='export SNAPSHOT="$(newest_snapshot)"'),
            Step(
                match=r"forget --unit",
                before="evergreen train tickets.csv --budget 20 && evergreen serve --detach && ask 40 && sleep 2",
            ),
        ),
        values=((r"data drop \w+", 'data drop "$SNAPSHOT"'),),
    ),
    Page(
        path="docs/how_to_train.md",
        steps=(
            Step(match=r"--recipe best", before=_TRAINED),
            Step(match=r"distill", before="tiny_encoder mpnet models/mpnet"),
            Step(match=r"--encoder models/my-encoder", before="tiny_encoder roberta models/my-encoder"),
            Step(match=r"xlm-roberta-base", not_run="needs a model hub"),
            Step(match=r"--encoder DIGEST", before='export BASE="$(ls .evergreen/bases | head -n 1)"'),
            Step(match=r"lab policy", not_run="needs ten windows of logged traffic with 500 labels"),
        ),
        values=(
            (r"--encoder DIGEST", '--encoder "$BASE"'),
            (r"(lab distill)", r"\1 --teacher-budget 60"),
            (r"^(.*models/my-encoder)", r"EVERGREEN_PROFILE=default \1"),  # narrower than the students of `test`
        ),
    ),
    Page(
        path="docs/operate/backup.md",
        steps=(
            Step(
                match=r"backup \S+1130",
                before=f'mkdir -p "$HOME/backups" && ln -sfn "$PWD" "$HOME/srv/evergreen" && {_TRAINED}',
            ),
        ),
    ),
    Page(path="docs/operate/upgrade.md", steps=(Step(match=r"backup before-upgrade", before=_TRAINED),)),
    Page(
        path="docs/operate/scheduled_training.md",
        steps=(Step(match=r"evergreen monitor", before=f'ln -sfn "$PWD" "$HOME/srv/evergreen" && {_TRAINED}'),),
    ),
    Page(
        path="docs/operate/service.md",
        steps=(
            Step(match=r"^cd /srv", before='ln -sfn "$PWD" "$HOME/srv/evergreen"'),
            Step(match=r"install-service", before='mkdir -p "$HOME/units"'),
        ),
        values=((r"sudo ", ""), (r"/etc/systemd/system", "$HOME/units")),
    ),
    Page(path="docs/operate/sizing.md"),
    Page(path="docs/operate/compose.md"),
    Page(path="docs/operate/aws.md", steps=(Step(match="", not_run="needs an AWS account"),)),
    Page(
        path="docs/runbook.md",
        steps=(
            Step(
                match=r"evergreen rollback",
                before=f"{_TRAINED} && evergreen train later.csv --budget 20 && evergreen promote 2 --now",
            ),
            Step(match=r"s3:|^AT=|^aws rds", not_run="needs an AWS account"),
            Step(match=r"^(pg_|dropdb)|platform\.databases", not_run="needs PostgreSQL with data of MLflow"),
        ),
    ),
    Page(
        path="docs/integrations/gate_in_ci.md",
        steps=(
            Step(
                match=r"gate candidate/",
                before=f"{_TRAINED} && evergreen export --into champion && evergreen train later.csv --budget 20 "
                "&& EVERGREEN_HOME=$PWD/other evergreen train tickets.csv --budget 20 "
                "&& EVERGREEN_HOME=$PWD/other evergreen export --into candidate",
                codes=(0, 4, 5),
            ),
            Step(match=r"gate 8 7", codes=(0, 4, 5)),
        ),
        values=((r"gate 8 7", "gate 2 1"),),
    ),
    Page(
        path="docs/integrations/label_studio.md",
        steps=(
            Step(match=r"labels export", before=_SERVED),
            Step(match=r"labels import", before=f"annotate tasks.json export.json '{_LABEL}'"),
        ),
    ),
    Page(
        path="docs/integrations/python_client.md",
        steps=(Step(match=r"Client\(", before=f'{_SERVED} && export KEY="$(feedback_key)"'),),
        values=((r"from evergreen import", "from absa.client import"), (r'_key="\.\.\."', '_key="$KEY"')),
    ),
    Page(path="docs/integrations/webhook.md"),
    Page(path="docs/integrations/kubernetes.md"),
    Page(
        path="docs/integrations/reading_the_lake.md",
        steps=(
            Step(
                match=r"import polars",
                before=f"evergreen train {_SAMPLE} --budget 20 && evergreen serve --detach "
                "&& evergreen simulate --seconds 10 && sleep 2",
            ),
            Step(match=r"read_parquet", not_run="DuckDB is no dependency; a test runs it where DuckDB is installed"),
            Step(match=r"import mlflow", before='evergreen up && export MLFLOW_PAGE="$(page mlflow)"'),
        ),
        values=((r"http://127\.0\.0\.1:5000", "$MLFLOW_PAGE"),),
    ),
    Page(
        path="absa/models/README.md",
        steps=(
            Step(match=r"evergreen export", before=f"evergreen train {_SAMPLE} --budget 20"),
            Step(match=r"models:/", before='evergreen up && export MLFLOW_PAGE="$(page mlflow)"'),
        ),
        values=(("my_rows.csv", _SAMPLE), (r"http://127\.0\.0\.1:5000", "$MLFLOW_PAGE")),
    ),
    Page(path="CONTRIBUTING.md", spans=("make check",)),
)


def planned(page: Page, blocks: list[Block]) -> list[PlannedCommand]:
    """Return the commands of a page in their order: of shell blocks and cron lines, and each Python or SQL block."""
    found: list[PlannedCommand] = []
    for number, block in enumerate(blocks):
        if block.language in ("sh", "bash"):
            texts = [text for _, text in statements(block.text)]
        elif block.language == "text":
            texts = [cron[1] for line in block.text.splitlines() if (cron := _CRON.match(line))]
        else:
            texts = [block.text] if block.language in ("python", "sql") else []
        for text in texts:
            command = _planned(page, text, number, block.section)
            escaped = command.typed.replace("\\", "\\\\").replace("`", "\\`")  # variables alone are expanded
            python = f"python - <<END_OF_BLOCK\n{escaped}\nEND_OF_BLOCK"
            found.append(replace(command, typed=python) if block.language == "python" else command)
    return [*found, *(_planned(page, text, len(blocks), "") for text in page.spans)]


def _planned(page: Page, text: str, block: int, section: str) -> PlannedCommand:
    bare = without_comment(text)
    step = next((each for each in (*page.steps, *COMMON) if re.search(each.match, bare)), Step(match=""))
    typed = bare
    for pattern, value in (*page.values, *VALUES):
        typed = re.sub(pattern, value, typed)
    return PlannedCommand(text=bare, typed=typed, step=step, block=block, section=section)


def without_comment(text: str) -> str:
    """Return a command of one line without the comment behind it."""
    if "\n" in text:
        return text
    cut = re.match(r"((?:[^'\"#]|'[^']*'|\"[^\"]*\"|(?<=\S)#)*?)\s+#", text)
    return (cut[1] if cut else text).strip()


def unused(page: Page, commands: list[PlannedCommand]) -> list[str]:
    """Return the steps and values that match no command of a page, because the page has changed."""
    stale = [each.match for each in page.steps if not any(each is command.step for command in commands)]
    texts = [command.text for command in commands]
    return stale + [pattern for pattern, _ in page.values if not any(re.search(pattern, text) for text in texts)]
