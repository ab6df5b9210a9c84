"""Parts as processes: what one leaves behind when it dies alone does not stand in the way of the next."""

import contextlib
import json
import os
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from absa.config_file import SETTINGS_FILE
from absa.errors import PermanentError, UnavailableError
from absa.router_settings import RouterSettings
from flows.platform.doctor import examine
from flows.platform.processes import STOP_GRACE_S, Part, Supervisor, parts, replace_taken_ports
from flows.platform.settings import Home, Settings, port_is_free
from serving.replica_identity import unit_secret
from tests.command_line import evergreen
from tests.serving_replica import free_port, until

# a leader and a child that listens, as `mlflow server` has one
_SERVER = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", sys.argv[1]])
"""

# one that holds no port yet when the next start looks
_SLOW_SERVER = """
import runpy, sys, time
time.sleep(1)
sys.argv[1:1] = ["--bind", "127.0.0.1"]
runpy.run_module("http.server", run_name="__main__")
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_MLFLOW_PORT", str(free_port()))
    return Settings.load()


def mlflow(settings: Settings, program: str) -> Part:
    """A part under MLflow's name and port."""
    port = Home(settings).ports()["mlflow"]
    return Part(
        name="mlflow", command=(sys.executable, "-c", program, str(port)), environment=dict(os.environ), port=port,
        ready_url=f"http://127.0.0.1:{port}/",
    )  # fmt: skip


def test_part_killed_alone_restarts_and_ends_whole(settings: Settings) -> None:
    part, port, supervisor = mlflow(settings, _SERVER), Home(settings).ports()["mlflow"], Supervisor(settings)
    try:
        supervisor.start(part)
        supervisor.wait([part], timeout_s=30)
        assert supervisor.orphans("mlflow") == []
        first = supervisor.running("mlflow")
        assert first is not None
        first.kill()
        until(lambda: supervisor.running("mlflow") is None)
        (orphan,) = supervisor.orphans("mlflow")
        assert not port_is_free("127.0.0.1", port)
        assert [finding.ok for finding in examine(settings) if str(port) in finding.sentence] == [True]
        supervisor.start(part)
        supervisor.wait([part], timeout_s=30)
        with contextlib.suppress(psutil.NoSuchProcess):
            assert orphan.status() == psutil.STATUS_ZOMBIE
        second = supervisor.running("mlflow")
        assert second is not None
        second.kill()
        until(lambda: supervisor.running("mlflow") is None)
        assert supervisor.stop("mlflow")
        assert port_is_free("127.0.0.1", port)
    finally:
        supervisor.stop("mlflow")


def test_child_of_ended_part_gets_no_grace(settings: Settings) -> None:
    part, supervisor = mlflow(settings, _SERVER), Supervisor(settings)
    try:
        supervisor.start(part)
        supervisor.wait([part], timeout_s=60)
    finally:
        began = time.monotonic()
        assert supervisor.stop("mlflow")
    assert time.monotonic() - began < STOP_GRACE_S / 2
    assert part.port is not None
    assert port_is_free("127.0.0.1", part.port)


def test_start_killed_before_note_does_not_block_next(settings: Settings) -> None:
    part, port, supervisor = mlflow(settings, _SLOW_SERVER), Home(settings).ports()["mlflow"], Supervisor(settings)
    try:
        supervisor.start(part)
        unnoted = supervisor.running("mlflow")
        assert unnoted is not None
        (Home(settings).folder("run") / "mlflow.json").unlink()
        supervisor.start(part)
        assert not unnoted.is_running() or unnoted.status() == psutil.STATUS_ZOMBIE
        supervisor.wait([part], timeout_s=30)
        assert supervisor.stop("mlflow")
        assert port_is_free("127.0.0.1", port)
    finally:
        supervisor.stop("mlflow")


def test_orphan_without_port_lives_until_stop(settings: Settings) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    part = Part(name="deployments", command=(sys.executable, "-c", child), environment=dict(os.environ))
    supervisor = Supervisor(settings)
    try:
        for number in range(2):
            supervisor.start(part)
            leader = supervisor.running("deployments")
            assert leader is not None
            until(leader.children)
            leader.kill()
            until(lambda: supervisor.running("deployments") is None)
            wanted = number + 1
            until(
                lambda wanted=wanted: len(supervisor.orphans("deployments")) == wanted
            )  # while it starts it has no environment
        supervisor.start(replace(part, command=(sys.executable, "-c", "import time; time.sleep(60)")))
        until(lambda: len(supervisor.orphans("deployments")) == 2)
        left = supervisor.orphans("deployments")
        assert supervisor.stop("deployments")
        assert supervisor.orphans("deployments") == []
        assert not [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    finally:
        supervisor.stop("deployments")


def test_only_outdated_parts_are_restarted(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A note of an earlier release has no entry; one with another command or entry points has another."""
    sleep = (sys.executable, "-c", "import time; time.sleep(60)")
    supervisor, run = Supervisor(settings), Home(settings).folder("run")
    made = {name: Part(name=name, command=sleep, environment=dict(os.environ)) for name in ("deployments", "router")}
    try:
        for name, part in made.items():
            assert not supervisor.is_outdated(part)
            supervisor.start(part)
            assert not supervisor.is_outdated(part)
            assert supervisor.is_outdated(replace(part, command=(*sleep, "other")))
            note = json.loads((run / f"{name}.json").read_text())
            (run / f"{name}.json").write_text(json.dumps({**note, "entry": "of an earlier release"}))
            assert supervisor.is_outdated(part)
            del note["entry"]
            (run / f"{name}.json").write_text(json.dumps(note))
        before = {name: supervisor.running(name) for name in made}
        for part in made.values():
            supervisor.start(part)
        assert supervisor.running("router") == before["router"]
        assert supervisor.running("deployments") not in (None, before["deployments"])
        assert not supervisor.is_outdated(made["deployments"])
    finally:
        for name in made:
            supervisor.stop(name)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "deployments runs with the code or command of an earlier start: it is restarted"


def router(settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> RouterSettings:
    """The settings that the local router reads when it starts."""
    started = parts(settings, environment)["router"].environment
    with monkeypatch.context() as patched:
        for name in [name for name in os.environ if name.startswith("EVERGREEN_")]:
            patched.delenv(name)
        for name, value in started.items():
            patched.setenv(name, value)
        return RouterSettings()


def test_the_router_reads_what_the_homes_settings_say(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    Home(settings).folder()
    said = "EVERGREEN_REDACT_TEXT=true\nEVERGREEN_PREDICT_KEY=asked-for\nEVERGREEN_SECRET=of-all-replicas\n"
    (settings.root / SETTINGS_FILE).write_text(said)
    again = Settings.load()
    found = router(again, {"EVERGREEN_HOME": str(settings.root)}, monkeypatch)
    assert found.redact_text
    assert found.predict_key is not None
    assert found.predict_key.get_secret_value() == "asked-for"
    assert again.predict_key == found.predict_key
    assert unit_secret(found) == b"of-all-replicas" == Home(again).unit_secret().encode()
    wins = {"EVERGREEN_HOME": str(settings.root), "EVERGREEN_REDACT_TEXT": "false"}
    assert not router(again, wins, monkeypatch).redact_text


def test_what_the_user_sets_for_the_router_wins(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {
        "EVERGREEN_ADMIN_TOKEN": "mine", "EVERGREEN_FEEDBACK_KEYS": '{"k": {"source": "survey"}}',
        "EVERGREEN_LINKS": "{}", "EVERGREEN_ROUTER_HOST": "127.0.0.9", "EVERGREEN_QUEUE_MS": "",
    }  # fmt: skip
    found = router(settings, mine, monkeypatch)
    assert found.admin_token is not None
    assert found.admin_token.get_secret_value() == "mine"
    assert [source.source for source in found.feedback_keys.values()] == ["survey"]
    assert (found.links, found.router_host, found.queue_ms) == ({}, "127.0.0.9", 1000.0)


def test_batches_and_forgetting_hash_units_like_router(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("", "of-all-replicas"):
        monkeypatch.setenv("EVERGREEN_SECRET", given)
        now = Settings.load()
        assert unit_secret(router(now, dict(os.environ), monkeypatch)).decode() == Home(now).unit_secret()
        assert Home(now).unit_secret() == (given or Home(now).secrets()["unit_secret"])


def test_simulated_customers_have_key_router_takes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    survey, both = '{"s": {"source": "survey"}}', '{"s": {"source": "survey"}, "c": {"source": "customer"}}'
    for given, source in ("", "customer"), (survey, "survey"), (both, "customer"):
        monkeypatch.setenv("EVERGREEN_FEEDBACK_KEYS", given)
        taken = router(settings, dict(os.environ), monkeypatch).feedback_keys
        assert taken[SecretStr(Home(settings).feedback_key())].source == source
    for broken in ("no JSON", "{}", '["key"]', '{"key": "customer"}'):
        monkeypatch.setenv("EVERGREEN_FEEDBACK_KEYS", broken)
        with pytest.raises(PermanentError, match="EVERGREEN_FEEDBACK_KEYS"):
            Home(settings).feedback_key()


def test_down_stops_system_whose_settings_are_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part, supervisor = mlflow(settings, _SLOW_SERVER), Supervisor(settings)
    try:
        supervisor.start(part)
        (settings.root / SETTINGS_FILE).write_text("EVERGREEN_STEP_S=4\n")
        (settings.root / "evergreen.toml").write_text("[gate\n")
        monkeypatch.setenv("EVERGREEN_RAMP", "0.5")
        with pytest.raises(PermanentError, match="EVERGREEN_RAMP is not a setting"):
            Settings.load()
        assert evergreen("down") == 0
        said = capsys.readouterr().out.splitlines()
        assert said[:2] == ["stopped: mlflow", f"everything in {settings.root} stays: data, models, the ledger"]
        assert supervisor.running("mlflow") is None
    finally:
        supervisor.stop("mlflow")


def test_down_refuses_an_empty_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", "")
    assert evergreen("down") == 1
    assert "EVERGREEN_HOME is empty: name a folder" in capsys.readouterr().err


def test_each_late_part_is_named_with_its_log(settings: Settings) -> None:
    supervisor, silent = Supervisor(settings), (sys.executable, "-c", "import time; time.sleep(60)")
    late = [replace(mlflow(settings, ""), name=name, command=silent) for name in ("mlflow", "prefect")]
    try:
        for part in late:
            supervisor.start(part)
        with pytest.raises(UnavailableError, match="mlflow, prefect: not ready") as raised:
            supervisor.wait(late, timeout_s=0.2)
    finally:
        for part in late:
            supervisor.stop(part.name)
    named = str(raised.value).partition("see ")[2].split(", ")
    assert named == [str(supervisor.log(part.name)) for part in late]


def test_taken_port_is_replaced_with_a_notice(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    Home(settings).keep_ports()
    before = Home(settings).ports()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before["mlflow"]))
        other.listen()
        (found,) = [each for each in examine(settings) if str(before["mlflow"]) in each.sentence]
        assert (found.ok, "mlflow starts with another port" in found.sentence) == (True, True)
        (sentence,) = replace_taken_ports(settings)
    after = Home(settings).ports()
    assert sentence == f"port {before['mlflow']} is taken by another program: mlflow uses port {after['mlflow']}"
    assert after["mlflow"] not in before.values()
    assert {**after, "mlflow": 0} == {**before, "mlflow": 0}
    assert replace_taken_ports(settings) == []


def test_fixed_port_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("EVERGREEN_MLFLOW_PORT", str(other.getsockname()[1]))
        assert replace_taken_ports(Settings(home=tmp_path)) == []
        wrong = [
            each.sentence for each in examine(Settings(home=tmp_path)) if "is taken" in each.sentence and not each.ok
        ]
        assert len(wrong) == 1
        assert "EVERGREEN_MLFLOW_PORT" in wrong[0]
