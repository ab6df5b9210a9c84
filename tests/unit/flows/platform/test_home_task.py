"""One task per home: a configuration of another one is refused, appended labels are not."""

from dataclasses import replace
from pathlib import Path

import pytest

from absa.data.ingest import ingest
from absa.data.mapping import DataMapping
from absa.errors import PermanentError
from absa.ledger.lifecycle import crowned
from absa.task import ABSA, TaskSpec
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.stand_ins import FakeRegistry

TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "bug"))
WIDER = replace(TICKETS, labels=("billing", "bug", "praise"), evaluated=())


def home(root: Path, task: TaskSpec, config: Path | None = None) -> Services:
    settings = Settings(home=root, data=DataMapping(task=task), config=config)
    return build_services(settings, environment={}, registry=FakeRegistry())


def learn(services: Services, file: Path) -> None:
    file.write_text("text,label\nit crashes,bug\n", encoding="utf-8")
    ingest(services.lake, [file], mapping=services.settings.data)


def crown(services: Services) -> None:
    services.ledger.append(
        expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions={"1": "d" * 64}
    )


def test_home_without_data_takes_any_task(tmp_path: Path) -> None:
    home(tmp_path, TICKETS).check_task()


def test_snapshot_decides_the_task_of_a_home(tmp_path: Path) -> None:
    learn(home(tmp_path, TICKETS), tmp_path / "rows.csv")
    home(tmp_path, WIDER).check_task()
    with pytest.raises(PermanentError, match=r"the task \(no evergreen.toml in .* \(its newest snapshot\)"):
        home(tmp_path, ABSA).check_task()


def test_ledger_decides_the_task_of_a_home(tmp_path: Path) -> None:
    crown(home(tmp_path, TICKETS))
    home(tmp_path, WIDER).check_task()
    both = r"expected tickets \(text; billing, bug\), got tickets \(text; bug, billing\); labels can only be appended"
    with pytest.raises(PermanentError, match=rf"x\.toml does not fit .* \(its ledger's first record\): {both}"):
        home(tmp_path, replace(TICKETS, labels=("bug", "billing"), evaluated=()), Path("x.toml")).check_task()
