"""The demo: the whole loop in seven chapters, on real servers, with windows and ramp shortened by a profile."""

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
from flows.demo.machine_load import slowdown
from flows.demo.own_command import own_command
from flows.demo.pace import PACES, DemoOptions, Pace
from flows.demo.story import Story
from flows.platform.processes import PortTakenError, replace_taken_ports, take_down
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings

_STARTS: Final = 3  # with other ports, where another program takes one between choice and start


def run_demo(options: DemoOptions) -> int:
    """Tell the story; gives the exit code.

    Raises:
        PermanentError: an unknown scale or task, a home whose data are not a demo's, an evergreen.toml of another
            task or beside that of a former demo, other rows than the demo began with, or a machine that the doctor
            turns down.
        InvalidDataError: DATA or DRIFT cannot be read.
    """
    if options.scale not in PACES:
        raise PermanentError(f"SCALE must be one of {', '.join(PACES)}, got {options.scale!r}")
    if options.task not in BUNDLED:
        raise PermanentError(f"TASK must be one of {', '.join(BUNDLED)}, got {options.task!r}")
    if options.task != ABSA.name and options.data is not None:
        raise PermanentError(f"TASK={options.task} and DATA={options.data} name two sets of rows: give one of them")
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
        os.environ.clear()  # it names addresses with the port that was taken
        os.environ.update(environment)
    raise PermanentError(f"other programs took a port of the demo in {_STARTS} starts; try again later")


def _run_once(options: DemoOptions, slower: float) -> int | None:
    """Run the demo with ports that are free now; None if another program took one before its server started."""
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
            demo.story.line(f"{error.__cause__}. The demo starts again with another port.")
            return None
        demo.story.line(f"Chapter {error.number} failed: {error.__cause__}")
        demo.story.line(f"Log: {error.log}   Again: {own_command('demo', *_words(options))}")
        code = 1
    except KeyboardInterrupt:
        demo.story.line()
        code = 130
    finally:
        stopped = take_down(demo.services.settings)
        demo.story.line()
        demo.story.line(
            f"Stopped {', '.join(stopped) or 'nothing'}. Models, lake and ledger stay in {_relative(demo)}; "
            f"`{own_command('up')}` brings everything back."
        )
    return 0 if code == 130 and len(demo.state.done) == 7 else code


def _shortened(options: DemoOptions, pace: Pace) -> Services:
    """Write the demo's configuration into the home; beside a user's own file, set the environment instead."""
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
    """Let a user's file in the working folder take precedence over that of a former demo, which a reset deletes."""
    own, former = Path(CONFIGURATION_FILE), Settings.of_home().root / CONFIGURATION_FILE
    if os.environ.get(CONFIG_VARIABLE) or not (own.is_file() and is_marked(former)) or own.samefile(former):
        return
    if not reset:
        raise PermanentError(
            f"{own.absolute()} is there beside {former}, which a former demo wrote: RESET=1 (--reset) deletes that "
            "demo, and EVERGREEN_HOME=FOLDER gives this one a home of its own"
        )
    os.environ[CONFIG_VARIABLE] = str(own.absolute())


def _must_be_a_demos(settings: Settings) -> None:
    """Refuse a home with a user's data: a demo changes its settings and champion, and RESET=1 deletes it."""
    file = settings.root / SETTINGS_FILE
    theirs = file.exists() and not is_marked(file)
    if not theirs and not is_demo_home(settings.root):
        lake = open_lake(settings.lake_uri)
        theirs = Ledger(lake).head() is not None or latest_manifest(lake) is not None
    if theirs:
        raise PermanentError(
            f"{settings.root} holds settings or data that are not a demo's: "
            "`export EVERGREEN_HOME=$HOME/evergreen-demo` gives the demo a home of its own"
        )


def _must_take_bundled_rows(settings: Settings, task: TaskSpec) -> None:
    """Refuse a user's file that describes another task: bundled rows would be read as rows of that task."""
    if settings.config is not None and not is_marked(settings.config) and settings.task != task:
        raise PermanentError(
            f"{settings.config} describes task {settings.task.name}, and the bundled rows are of task {task.name}: "
            "DATA=FILE (--data FILE) takes your rows, or start the demo where this file is not read"
        )


def _forget(settings: Settings) -> None:
    """Remove the leftovers of an earlier demo; only names that are ours."""
    take_down(settings)
    ours = ("lake", "mlflow", "prefect", "evidently", "serving", "models", "jobs", "metrics", "run", "logs", "demo")
    for name in ours:
        shutil.rmtree(settings.root / name, ignore_errors=True)
    for name in (DEMO_STATE, "ports.json"):
        (settings.root / name).unlink(missing_ok=True)
    former = settings.root / CONFIGURATION_FILE
    if is_marked(former) and not (settings.config is not None and former.samefile(settings.config)):
        former.unlink()  # the file in use is written again


def _toml(task: TaskSpec) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in task.to_json().items())


def _stay(story: Story) -> None:
    story.line()
    story.line("Everything stays up. Ctrl-C stops it.")
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
