"""Demo: the whole loop in seven chapters, on real servers, with short windows and ramp."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Final

from absa.adapters.lake_stores import open_lake
from absa.config_file import DEMO_MARK, DEMO_STATE, SETTINGS_FILE, is_demo_home, is_marked
from absa.data.bundled import BUNDLED
from absa.data.mapping import CONFIG_VARIABLE, CONFIGURATION_FILE
from absa.data.snapshot import latest_manifest
from absa.errors import InvalidDataError, PermanentError
from absa.ledger.store import Ledger
from absa.records.files import write_whole
from absa.task import ABSA, TaskSpec
from flows.demo.chapters import ChapterError, Demo
from flows.demo.machine_speed import slowdown
from flows.demo.own_command import own_command
from flows.demo.pace import PACES, DemoOptions, Pace
from flows.demo.story import Story
from flows.platform.processes import PortTakenError, replace_taken_ports, take_down
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings

_STARTS: Final = 3  # each with other ports, if another program takes a port between its choice and its use


def run_demo(options: DemoOptions) -> int:
    """Run the demo and return its exit code.

    Raises:
        PermanentError: the scale or the task is unknown; the home holds data of a user; evergreen.toml describes
            another task, or there is a second one of a former demo; the demo began with other rows; or `evergreen
            doctor` finds a problem with the machine.
        InvalidDataError: DATA or DRIFT cannot be read.
    """
    if options.scale not in PACES:
        raise PermanentError(f"SCALE: expected one of {', '.join(PACES)}, got {options.scale!r}")
    if options.task not in BUNDLED:
        raise PermanentError(f"TASK: expected one of {', '.join(BUNDLED)}, got {options.task!r}")
    if options.task != ABSA.name and options.data is not None:
        raise PermanentError(f"TASK={options.task} and DATA={options.data} each choose the rows: give only one of them")
    for path in (options.data, Path(options.drift) if options.drift not in {None, "none"} else None):
        if path is not None and not path.is_file():
            raise InvalidDataError(f"{path} does not exist: name a CSV file with labelled texts")
    _take_users_configuration(reset=options.reset)
    _must_be_a_demos(Settings.load())
    if options.data is None:
        _must_take_bundled_rows(Settings.load(), BUNDLED[options.task].task)
    if options.reset:
        _forget(Settings.load())
    slower, environment = slowdown(), dict(os.environ)
    for _ in range(_STARTS):
        code = _run_once(options, slower)
        if code is not None:
            return code
        os.environ.clear()  # the demo has set addresses with the port that was taken
        os.environ.update(environment)
    raise PermanentError(f"another program took a port of the demo in each of {_STARTS} starts: try again later")


def _run_once(options: DemoOptions, slower: float) -> int | None:
    """Run the demo and return its exit code; None if another program took a port meanwhile."""
    notices = replace_taken_ports(Settings.load())
    pace = PACES[options.scale].on_machine(slower)
    demo = Demo(options, pace, _shortened(options, pace), slowdown=slower)
    for sentence in notices:
        demo.story.line(sentence)
    code = 0
    try:
        demo.run()
        if options.keep:
            _stay(demo.story)
    except ChapterError as error:
        demo.story.line()
        if isinstance(error.__cause__, PortTakenError):
            demo.story.line(f"{error.__cause__}. Now the demo starts again with another port.")
            return None
        demo.story.line(f"Chapter {error.number} failed: {error.__cause__}")
        demo.story.line(f"Log: {error.log}   To try again: {own_command('demo', *_words(options))}")
        code = 1
    except KeyboardInterrupt:
        demo.story.line()
        code = 130
    finally:
        stopped = take_down(demo.services.settings)
        demo.story.line()
        demo.story.line(
            f"Stopped: {', '.join(stopped) or 'nothing'}. Models, lake and ledger stay in {_relative(demo)}; "
            f"`{own_command('up')}` starts the servers again."
        )
    return 0 if code == 130 and len(demo.state.done) == 7 else code


def _shortened(options: DemoOptions, pace: Pace) -> Services:
    """Write the demo's configuration into the home. If the user has a file, set environment variables instead."""
    settings = Settings.load()
    home = settings.root
    home.mkdir(parents=True, exist_ok=True)
    if is_marked(home / SETTINGS_FILE):
        (home / SETTINGS_FILE).unlink()
    if settings.config is None or is_marked(settings.config):
        task = f"\n[task]\n{_toml(BUNDLED[options.task].task)}" if options.task != ABSA.name else ""
        write_whole(home / CONFIGURATION_FILE, f"{DEMO_MARK} ({options.scale})\n{pace.configuration()}{task}")
    else:
        os.environ.update(pace.variables())
    return build_services(Settings.load())


def _take_users_configuration(*, reset: bool) -> None:
    """Use the user's file in the working folder instead of a former demo's file.

    Raises:
        PermanentError: both files exist, and there is no reset that deletes the former demo's file.
    """
    own, former = Path(CONFIGURATION_FILE), Settings.of_home().root / CONFIGURATION_FILE
    if os.environ.get(CONFIG_VARIABLE) or not (own.is_file() and is_marked(former)) or own.samefile(former):
        return
    if not reset:
        raise PermanentError(
            f"there are two configurations: {own.absolute()}, and {former}, which a former demo wrote: RESET=1 "
            "(--reset) deletes the former demo, and EVERGREEN_HOME=FOLDER gives this demo another home"
        )
    os.environ[CONFIG_VARIABLE] = str(own.absolute())


def _must_be_a_demos(settings: Settings) -> None:
    """Refuse a home with a user's data: a demo changes its settings, and RESET=1 deletes data."""
    file = settings.root / SETTINGS_FILE
    theirs = file.exists() and not is_marked(file)
    if not theirs and not is_demo_home(settings.root):
        lake = open_lake(settings.lake_uri)
        theirs = Ledger(lake).head() is not None or latest_manifest(lake) is not None
    if theirs:
        raise PermanentError(
            f"{settings.root} holds settings or data that are not a demo's: "
            "`export EVERGREEN_HOME=$HOME/evergreen-demo` gives the demo another home"
        )


def _must_take_bundled_rows(settings: Settings, task: TaskSpec) -> None:
    """Refuse the bundled rows if the user's evergreen.toml describes another task than theirs."""
    if settings.config is not None and not is_marked(settings.config) and settings.task != task:
        raise PermanentError(
            f"{settings.config} describes task {settings.task.name}, but the bundled rows are for task {task.name}: "
            "use your own rows (DATA=FILE, --data FILE), or start the demo in a folder and a home without it"
        )


def _forget(settings: Settings) -> None:
    """Delete an earlier demo: only files and folders that Evergreen makes."""
    take_down(settings)
    ours = ("lake", "mlflow", "prefect", "evidently", "serving", "models", "jobs", "metrics", "run", "logs", "demo")
    for name in ours:
        shutil.rmtree(settings.root / name, ignore_errors=True)
    for name in (DEMO_STATE, "ports.json"):
        (settings.root / name).unlink(missing_ok=True)
    former = settings.root / CONFIGURATION_FILE
    if is_marked(former) and not (settings.config is not None and former.samefile(settings.config)):
        former.unlink()  # a file in use is not deleted: the demo writes it again


def _toml(task: TaskSpec) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in task.to_json().items())


def _stay(story: Story) -> None:
    story.line()
    story.line("The demo keeps its servers running. Ctrl-C stops it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


def _words(options: DemoOptions) -> list[str]:
    words = ["--scale", options.scale] if options.scale != "full" else []
    words += ["--task", options.task] if options.task != ABSA.name else []
    words += ["--data", str(options.data)] if options.data else []
    words += ["--drift", options.drift] if options.drift else []
    return words if options.keep else [*words, "--no-keep"]


def _relative(demo: Demo) -> str:
    return os.path.relpath(demo.services.settings.root)
