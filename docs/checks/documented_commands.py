"""Commands in documents: found in blocks, code spans and messages, and parsed as their programs parse them.

A command is a call of `evergreen`, `make`, or Python with a module or file of this repository. Its words are checked:
command groups and options by Typer's parser, targets and variables in the Makefile, options of scripts in their
`add_argument` calls. Words in capitals are placeholders. Nothing is run.
"""

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from absa.errors import PermanentError
from flows.cli.commands import app

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("absa", "flows", "serving", "monitoring", "infra")
OURS = (*ROOMS, "benchmarks", "tests", "docs")
SHELL = ("sh", "bash", "")
EVERGREEN = ("evergreen", "inside")  # pages define `inside` as the command in a container
EXCEPTIONS: dict[str, str] = {}
"""Documented commands that their program refuses, each with the reason."""
_FENCE = re.compile(r"^ *(```|~~~) *(\w*)")
_SPAN = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n\s*\n).)+?)(?<!`)\1(?!`)", re.DOTALL)
_MESSAGE = re.compile(r"`(evergreen [^`{}\"]+)`")
_EXAMPLE = re.compile(r"^Example: (.+)$")
_CRON = re.compile(r"^(?:[\d*/,-]+ ){5}(.+)$")
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*=")
_PLACEHOLDER = re.compile(r"^(?:[A-Z][A-Z_ ]*(\.\w+)?|<\w+>|\$\*)$")  # NAME, FILE.csv, <name>, make's $*
_SEPARATORS = frozenset("();|&\n")
_KEYWORDS = frozenset({"{", "}", "do", "done", "then", "else", "fi"})
_PYTHON = re.compile(r"python[\d.]*")
_DECLARING = {"add_options", "main"}  # functions of another script by which a script gets that script's options
_VARIABLE = re.compile(r"\$\(([^()]*)\)")
_TARGET = re.compile(r"^([a-z][\w-]*):.*##", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Fenced block of a page.

    Attributes:
        page: path from the root of the repository.
        line: number of its first line in the page.
        language: word after the fence, or empty.
        section: heading above it.
        text: its lines without the indent of the fence.
    """

    page: str
    line: int
    language: str
    section: str
    text: str


@dataclass(frozen=True)
class DocumentedCommand:
    """Command of a page.

    Attributes:
        page: path from the root of the repository.
        line: number of its line.
        text: text of the command in the page.
        whole: True for a command to type, False for a mention, which may leave out required words.
    """

    page: str
    line: int
    text: str
    whole: bool


def pages(root: Path) -> list[Path]:
    """Return the pages whose commands a reader may type: all pages except the changelog."""
    rooms = [root / room / "README.md" for room in OURS]
    named = [root / "README.md", root / "CONTRIBUTING.md", root / "absa/models/README.md", *rooms]
    return [*(page for page in named if page.is_file()), *sorted((root / "docs").rglob("*.md"))]


def blocks(page: str, text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    section, fence, language, indent, start, held = "", "", "", 0, 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        opened = _FENCE.match(line)
        if fence:
            if opened and opened[1] == fence:
                yield Block(page, start, language, section, "\n".join(held))
                fence, held = "", []
            else:
                held.append(line[indent:] if not line[:indent].strip() else line)
        elif opened:
            fence, language, start, indent = opened[1], opened[2], number + 1, len(line) - len(line.lstrip())
        elif line.startswith("#"):
            section = line.lstrip("# ")


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield the statements of a shell script and the offset of the line that each starts on."""
    held, start = "", 0
    for number, line in enumerate(text.splitlines()):
        held, start = (f"{held}\n{line}", start) if held else (line, number)
        if line.endswith("\\") or not _is_whole(held):
            continue
        if _words(held):
            yield start, held
        held = ""
    if held:
        yield start, held


def documented_commands(root: Path) -> Iterator[DocumentedCommand]:
    """Yield the commands of all pages, of the Makefile's recipes, and of the product's messages and docstrings."""
    for path in pages(root):
        yield from _of_page(str(path.relative_to(root)), path.read_text(encoding="utf-8"))
    for number, line in enumerate((root / "Makefile").read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("\t"):
            yield DocumentedCommand("Makefile", number, _expanded(line.strip("\t@\\ ")), whole=False)
    for source in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
            for span in _MESSAGE.findall(line):
                yield DocumentedCommand(str(source.relative_to(root)), number, span, whole=False)


def _of_page(page: str, text: str) -> Iterator[DocumentedCommand]:
    """Yield the commands of shell blocks and cron lines, of code spans, and of examples in the reference."""
    lines = text.splitlines()
    for block in blocks(page, text):
        if block.language in SHELL:
            for at, statement in statements(block.text):
                yield DocumentedCommand(page, block.line + at, statement, whole=True)
        for at, line in enumerate(block.text.splitlines()):
            if block.language == "text" and (cron := _CRON.match(line)):
                yield DocumentedCommand(page, block.line + at, cron[1], whole=True)
        for at in range(block.line - 2, block.line + block.text.count("\n") + 1):
            lines[at] = ""
    yield from _spans(page, "\n".join(lines))
    for number, line in enumerate(lines, start=1):
        if example := _EXAMPLE.match(line):
            yield DocumentedCommand(page, number, example[1], whole=True)


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the calls in a shell statement that can be checked: the program (evergreen, make, python) and its words."""
    words: list[str] = []
    to_file = False
    for token in [*_words(text), ";"]:
        if token in _KEYWORDS or _SEPARATORS.issuperset(token):
            if found := _call(words):
                yield found
            words = []
        elif set(token) <= set("<>&"):
            to_file = True
            continue
        elif not to_file:
            words.append(token)
        to_file = False


def problems(root: Path, exceptions: dict[str, str]) -> Iterator[str]:
    """Yield a line for each command that its program would refuse, and for each exception that does not apply."""
    unused = dict(exceptions)
    for command in documented_commands(root):
        unused.pop(command.text, None)
        for program, words in calls(command.text):
            said = problem(root, program, words, whole=command.whole)
            if said and command.text not in exceptions:
                yield f"{command.page}:{command.line}: {command.text!r}: {said}"
    yield from (f"exception {text!r} is in no document" for text in unused)


def problem(root: Path, program: str, words: Sequence[str], *, whole: bool) -> str | None:
    """Return the program's sentence that refuses these words; None if the program accepts them."""
    words = [word.strip("[]") for word in words if word != "..."]  # brackets and dots of a synopsis
    if program == "make":
        return _make_problem(root, words)
    if program == "python":
        return _python_problem(root, words)
    return _evergreen_problem(words, whole=whole)


def _expanded(recipe: str) -> str:
    """Return a line of a recipe without optional parts, and with a placeholder for each variable."""
    text = recipe.replace("$$", "").replace("$(BIN)/", "")
    while (inner := _VARIABLE.sub(lambda found: "" if " " in found[1] else "VALUE", text)) != text:
        text = inner
    return text


def _spans(page: str, text: str) -> Iterator[DocumentedCommand]:
    for span in _SPAN.finditer(text):
        said = " ".join(span[2].split())
        try:
            found = [*calls(said)]
        except ValueError:  # an apostrophe: prose or code of another language
            continue
        if found:
            yield DocumentedCommand(page, text.count("\n", 0, span.start()) + 1, said, whole=False)


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    return list(lexer)


def _is_whole(text: str) -> bool:
    """Return True if a statement ends here: every quote, brace and loop is closed."""
    try:
        words = _words(text)
    except ValueError:
        return False
    return words.count("{") == words.count("}") and words.count("do") == words.count("done")


def _call(words: list[str]) -> tuple[str, list[str]] | None:
    while words and (_ASSIGNMENT.match(words[0]) or words[0] == "sudo"):
        words = words[1:]
    if words[:2] == ["uvx", "--from"]:
        words = words[3:]
    elif words[:1] == ["kubectl"] and "--" in words:
        words = words[words.index("--") + 1 :]
    if not words:
        return None
    name, rest = Path(words[0]).name, words[1:]
    if name in EVERGREEN:
        return "evergreen", rest
    if name == "make":
        return "make", rest
    if not _PYTHON.fullmatch(name):
        return None
    return ("evergreen", rest[2:]) if rest[:2] == ["-m", "flows.cli"] else ("python", rest)


@cache
def _evergreen() -> Any:
    return get_command(app)


def _evergreen_problem(words: Sequence[str], *, whole: bool) -> str | None:
    """Return the refusal of Typer's parser, without the checks that look at files."""
    command, context, rest = _evergreen(), None, list(words)
    try:
        while True:
            context = typer.Context(command, parent=context, info_name=command.name)
            if not whole and rest and rest[-1].startswith("--"):
                rest = _completed(command, context, rest)
            values, rest, _ = command.make_parser(context).parse_args(rest)
            if values.get("help") or values.get("version"):
                return None
            for parameter in command.get_params(context):
                given = values.get(parameter.name)
                if given in (None, ()):
                    if whole and parameter.required:
                        return f"{parameter.name} is missing"
                    continue
                _check_value(parameter, context, given)
            commands = getattr(command, "commands", None)
            if commands is None or not rest:
                return f"unexpected words: {' '.join(rest)}" if rest else None
            name = rest.pop(0)
            if name not in commands:
                return None if _PLACEHOLDER.match(name) else f"{command.name} has no command {name!r}"
            command = commands[name]
    except (TyperException, PermanentError) as error:
        return getattr(error, "message", str(error))


def _completed(command: Any, context: typer.Context, words: list[str]) -> list[str]:
    """Return the words of a mention, with a value for its last option if this option takes one."""
    takes = (each for each in command.get_params(context) if words[-1] in each.opts and not each.is_flag)
    return [*words, "VALUE"] if any(takes) else words


def _check_value(parameter: Any, context: typer.Context, given: Any) -> None:
    """Raise the refusal of a value that has the wrong type or is out of range, unless it is a placeholder."""
    listed = list(given) if isinstance(given, list | tuple) else [given]
    if any(isinstance(each, bool) or _PLACEHOLDER.match(str(each)) for each in listed):
        return
    value = parameter.get_runtime_param().coerce(given, param=parameter, ctx=context)
    if parameter.callback is not None and isinstance(value, int | float):
        parameter.callback(context, parameter, value)


@cache
def _makefile(root: Path) -> tuple[str, frozenset[str], frozenset[str]]:
    """Return the Makefile, its targets that `make help` lists, and the benchmarks among them."""
    text = (root / "Makefile").read_text(encoding="utf-8")
    named = re.search(r"^BENCHMARKS = (.+)$", text, re.MULTILINE)
    benchmarks = frozenset(f"benchmark-{name}" for name in (named[1].split() if named else ()))
    return text, frozenset(_TARGET.findall(text)) | benchmarks, benchmarks


def _make_problem(root: Path, words: Sequence[str]) -> str | None:
    text, targets, benchmarks = _makefile(root)
    given = [word for word in words if not _ASSIGNMENT.match(word)]
    for target in given:
        if target not in targets and not re.fullmatch(r"benchmark-(?:[A-Z]+|<)?", target):
            return f"make has no target {target!r} with a line in `make help`"
    for name, _, value in (word.partition("=") for word in words if _ASSIGNMENT.match(word)):
        if f"$({name})" not in text:
            return f"the Makefile reads no variable {name}"
        if name == "ARGS" and (ours := [target for target in given if target in benchmarks]):
            return _python_problem(root, ["-m", "benchmarks", ours[0].removeprefix("benchmark-"), *shlex.split(value)])
    return None


def _python_problem(root: Path, words: Sequence[str]) -> str | None:
    """Return the refusal of a module or file of this repository; other modules are not checked."""
    if words[:2] == ["-m", "benchmarks"] and len(words) > 2:
        name, options = words[2], words[3:]
        files = [*(root / "benchmarks").rglob(f"{name}.py")]
        if not files:
            return None if _PLACEHOLDER.match(name) else f"no benchmark is named {name!r}"
        file = files[0]
    elif words[:1] == ["-m"] and len(words) > 1 and words[1].partition(".")[0] in OURS:
        place, options = root / words[1].replace(".", "/"), words[2:]
        file = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    elif words and words[0].endswith(".py"):
        file, options = root / words[0], words[1:]
    else:
        return None
    if not file.is_file():
        return f"{file.relative_to(root)} does not exist"
    known = {"-h", "--help", *_script_options(root, file)}
    unknown = [each for each in options if each.startswith("-") and each.partition("=")[0] not in known]
    return f"{file.relative_to(root)} has no option {', '.join(unknown)}" if unknown else None


@cache
def _script_options(root: Path, file: Path) -> frozenset[str]:
    """Return the options that are declared by a script, or by functions that the script imports for this."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            found |= {each.value for each in node.args if isinstance(each, ast.Constant) and str(each.value)[:1] == "-"}
        elif isinstance(node, ast.ImportFrom) and node.module and {each.name for each in node.names} & _DECLARING:
            imported = root / f"{node.module.replace('.', '/')}.py"
            found |= _script_options(root, imported) if imported.is_file() else set()
    return frozenset(found)
