"""Prose check of `make check`: docstrings (ruff D), words of documents and docstrings, and names of tests.

The words are the vale rules in docs/checks/styles/Evergreen, so `vale .` and editors read the same list. Code blocks
and code spans are left out. docs/reference/commands.md is the output of `--help`, and is checked as a document.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("absa", "flows", "serving", "monitoring", "infra")
TOOLS = ("tests", "benchmarks", "docs")  # only the rules for first words apply to them
HERE = Path("docs/checks")
MAX_WORDS, MAX_CHARACTERS = 8, 60  # limits of a test name


@dataclass(frozen=True)
class Finding:
    """One break of a rule."""

    path: str
    line: int
    rule: str
    message: str
    text: str


@dataclass(frozen=True)
class Rule:
    """Vale rule: patterns with the message for each."""

    name: str
    patterns: Sequence[tuple[re.Pattern[str], str]]

    @classmethod
    def read(cls, path: Path) -> "Rule":
        """Read a substitution or existence rule."""
        rule: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        flags = re.IGNORECASE if rule.get("ignorecase") else re.NOFLAG
        edge = "" if rule.get("nonword") else r"\b"
        wanted = {"substitution": "swap", "existence": "tokens"}.get(rule["extends"])
        if wanted is None:
            raise ValueError(f"{path}: expected extends: substitution or existence, got {rule['extends']}")
        words = rule[wanted]
        pairs = words.items() if isinstance(words, dict) else ((word, None) for word in words)
        patterns = []
        for word, instead in pairs:
            message = rule["message"] if instead is None else rule["message"].replace("%s", instead, 1)
            spread = word.replace(" ", r"\s+")  # a line may end inside
            patterns.append((re.compile(f"{edge}(?:{spread}){edge}", flags), message))
        return cls(path.stem, patterns)

    def findings(self, path: str, line: int, block: str) -> Iterator[Finding]:
        """Yield the matches in a block of prose, each with its sentence."""
        for pattern, message in self.patterns:
            for match in pattern.finditer(block):
                start = max((each.end() for each in _SENTENCE_END.finditer(block, 0, match.start())), default=0)
                end = _SENTENCE_END.search(block, match.end())
                sentence = block[start : end.start() if end else len(block)]
                at = line + block.count("\n", 0, match.start())
                words = " ".join(match[0].split())
                yield Finding(path, at, f"Evergreen.{self.name}", message.replace("%s", words), f"{words}|{sentence}")


_SENTENCE_END = re.compile(r"(?<=[.!?:;|])\s+")
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)[^`]+?\1|<!--.*?-->|(?<=\])\([^)\s]*\)", re.DOTALL)


def prose_blocks(text: str, *, cells: bool = False) -> Iterator[tuple[int, str]]:
    """Yield paragraphs without code and the line of their start; with `cells`, yield items and cells separately."""
    text = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    text = _CODE.sub(lambda found: "`" + "\n" * found[0].count("\n") + "`", text)
    line = 1
    for block in re.split(r"(\n[ \t]*(?=\n))", text):
        if block.strip():
            lead = len(block) - len(block.lstrip("\n"))
            yield line + lead, block[lead:]
        line += block.count("\n")
    if cells:
        for number, each in enumerate(text.splitlines(), start=1):
            for cell in re.split(r"\||^\s*\* [^:]*: ", each):
                yield number, cell.strip()


def word_findings(root: Path) -> Iterator[Finding]:
    """Yield the matches of the vale rules in documents and docstrings."""
    rules = {rule.name: rule for rule in map(Rule.read, sorted((root / HERE / "styles/Evergreen").glob("*.yml")))}
    first = rules.pop("QuestionFirst")
    pages = [*root.glob("*.md"), *(page for room in ("docs", *ROOMS) for page in (root / room).rglob("*.md"))]
    for page in sorted(pages):
        path, text = str(page.relative_to(root)), page.read_text(encoding="utf-8")
        for line, block in prose_blocks(text):
            for rule in rules.values():
                yield from rule.findings(path, line, block)
        if path.startswith("docs/reference/"):
            for line, cell in prose_blocks(text, cells=True):
                yield from first.findings(path, line, cell)
    for source in sorted(page for room in (*ROOMS, *TOOLS) for page in (root / room).rglob("*.py")):
        path = str(source.relative_to(root))
        for start, text in docstrings(ast.parse(source.read_text(encoding="utf-8"))):
            yield from first.findings(path, start, text)
            if path.startswith(TOOLS):
                continue
            for line, block in prose_blocks(text):
                for rule in rules.values():
                    yield from rule.findings(path, start + line - 1, block)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each docstring with the line that it starts on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield node.body[0].lineno, text


def docstring_findings(root: Path) -> Iterator[Finding]:
    """Yield the findings of ruff's D rules, with the settings in pyproject.toml."""
    command = [Path(sys.executable).parent / "ruff", "check", "--select", "D,D401", "--ignore", "D105,D107"]
    command += ["--output-format", "json", *ROOMS]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode not in (0, 1):
        raise SystemExit(f"ruff failed: {done.stderr.strip()}")
    for each in json.loads(done.stdout):
        path, row = Path(each["filename"]), each["location"]["row"]
        line = path.read_text(encoding="utf-8").splitlines()[row - 1]
        yield Finding(str(path.relative_to(root)), row, each["code"], each["message"], line)


def test_name_findings(root: Path) -> Iterator[Finding]:
    """Yield names of tests that are too long."""
    for source in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                words, characters = len(node.name.split("_")) - 1, len(node.name)
                if words > MAX_WORDS or characters > MAX_CHARACTERS:
                    message = (
                        f"Expected <= {MAX_WORDS} words, <= {MAX_CHARACTERS} characters, got {words}, {characters}"
                    )
                    yield Finding(str(source.relative_to(root)), node.lineno, "TestName", message, node.name)


def main() -> None:
    """Print the findings; exit with 1 if there is one."""
    found = [*docstring_findings(ROOT), *word_findings(ROOT), *test_name_findings(ROOT)]
    for each in found:
        sys.stdout.write(f"{each.path}:{each.line}: {each.rule} {each.message}\n")
    sys.stdout.write(f"prose: {len(found)} findings\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
