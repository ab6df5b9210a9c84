"""Structure of the code in figures: `python docs/checks/house.py [CASE=FOLDER ...]`, or `make house`.

Without arguments it measures its own checkout.

- lines: physical lines of `.py` files; code lines are those that are not blank
- modules of a folder: its `.py` files without `__init__.py`
- import levels: modules on the longest import chain inside a room
- cycle: modules, or packages of one folder, that import each other
- settings: public fields of classes that derive from pydantic's BaseSettings
- clash: a public top-level name that two or more product files define; a file name that two or more folders use
- words of a test name: without `test`
"""

import argparse
import ast
import dataclasses
import json
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grimp

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Path(__file__).with_name("limits.json")
MOST_MODULES = 14  # per folder
ROOMS = ("absa", "flows", "serving", "monitoring", "infra")
QUESTION = re.compile(r"(What|Whether|Who|Whose|How|Which|Where|When|Why)\b")
TARGETS = {  # at most
    "product_code_lines": 27_000,
    "most_modules_in_a_folder": MOST_MODULES,
    "import_cycles": 0,
    "name_clashes": 0,
    "file_name_clashes": 0,
    "question_docstrings": 0,
}
_GRAPH = """
import json, sys, grimp
graph = grimp.build_graph(*sys.argv[1:], exclude_type_checking_imports=True, cache_dir=None)
print(json.dumps({module: sorted(graph.find_modules_directly_imported_by(module)) for module in graph.modules}))
"""
_ENTRY_POINTS = {"main"}  # each script has a function with this name


@dataclasses.dataclass(frozen=True, kw_only=True)
class House:
    """Figures of one checkout."""

    lines: Mapping[str, int]
    code_lines: Mapping[str, int]
    modules: Mapping[str, int]
    levels: Mapping[str, int]
    arrows: Mapping[str, int]
    cycles: list[list[str]]
    settings: Mapping[str, int]
    clashes: Mapping[str, list[str]]
    file_clashes: Mapping[str, list[str]]
    docstrings: int
    question_docstrings: int
    test_words: list[int]
    longest_test: int

    def figures(self) -> dict[str, float]:
        """Return the figures by measure."""
        found: dict[str, float] = {}
        for part in self.lines:
            found[f"{part}_lines"] = self.lines[part]
            found[f"{part}_code_lines"] = self.code_lines[part]
        return found | {
            "most_modules_in_a_folder": max(self.modules.values()),
            "folders_over_14_modules": sum(count > 14 for count in self.modules.values()),
            "import_levels_of_flows": self.levels["flows"],
            "import_levels": max(self.levels.values()),
            "import_arrows": sum(self.arrows.values()),
            "import_cycles": len(self.cycles),
            "public_settings": sum(self.settings.values()),
            "name_clashes": len(self.clashes),
            "file_name_clashes": len(self.file_clashes),
            "docstrings": self.docstrings,
            "question_docstrings": self.question_docstrings,
            "tests": len(self.test_words),
            "test_name_words_median": statistics.median(self.test_words),
            "test_name_words_max": max(self.test_words),
            "test_name_characters_max": self.longest_test,
        }


def measure(root: Path) -> House:
    """Measure a checkout."""
    parts = {"product": ROOMS, "test": ("tests",), "benchmark": ("benchmarks",)}
    sources = {part: dict(_sources(root, folders)) for part, folders in parts.items()}
    product = {name: ast.parse(text) for name, text in sources["product"].items()}
    graph = _imports(root)
    texts = [text for tree in product.values() for text in docstrings(tree)]
    tests = [
        node.name
        for text in sources["test"].values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    return House(
        lines={part: sum(text.count("\n") for text in found.values()) for part, found in sources.items()},
        code_lines={
            part: sum(bool(line.strip()) for text in found.values() for line in text.splitlines())
            for part, found in sources.items()
        },
        modules=Counter(
            str(Path(name).parent) for found in sources.values() for name in found if not name.endswith("__init__.py")
        ),
        levels={room: _levels(_inside(graph, room)) for room in ROOMS},
        arrows={room: sum(map(len, _inside(graph, room).values())) for room in ROOMS},
        cycles=_cycles(graph),
        settings=_settings(product),
        clashes=_clashes(product),
        file_clashes=_file_clashes(product),
        docstrings=len(texts),
        question_docstrings=sum(bool(QUESTION.match(text)) for text in texts),
        test_words=[len(name.split("_")) - 1 for name in tests],
        longest_test=max(map(len, tests)),
    )


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield text


def _sources(root: Path, folders: Iterable[str]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield str(path.relative_to(root)), path.read_text(encoding="utf-8")


def _imports(root: Path) -> dict[str, set[str]]:
    """Return the modules that each product module imports."""
    # In a separate process, because this process may have loaded the rooms of another checkout.
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _GRAPH, *ROOMS],
        cwd=root,  # which `-c` looks in first
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"import graph of {root} failed: {done.stderr.strip().splitlines()[-1]}")
    graph = {module: set(others) for module, others in json.loads(done.stdout).items()}
    own = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name, _ in _sources(root, ROOMS)}
    if foreign := graph.keys() - own:
        raise SystemExit(f"expected modules of {root}, got {min(foreign)}")
    return graph


def _inside(graph: Mapping[str, set[str]], room: str) -> dict[str, set[str]]:
    """Return the part of the graph inside a room."""
    own = {module for module in graph if module.split(".")[0] == room}
    return {module: graph[module] & own for module in own}


def _levels(graph: Mapping[str, set[str]]) -> int:
    """Return the number of modules on the longest import chain; a cycle counts as one module."""
    groups = _groups(graph)
    group_of = {module: number for number, group in enumerate(groups) for module in group}
    depth: list[int] = []
    for number, group in enumerate(groups):  # a group comes after the groups that it imports
        below = {group_of[other] for module in group for other in graph[module]} - {number}
        depth.append(1 + max((depth[other] for other in below), default=0))
    return max(depth)


def _cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return cycles between modules, and between the children of each package."""
    cycles = [group for group in _groups(graph) if len(group) > 1]
    packages = {module.rpartition(".")[0] for module in graph if "." in module}
    for package in packages:
        children: dict[str, set[str]] = defaultdict(set)
        depth = package.count(".") + 2
        for module, others in graph.items():
            if module.startswith(f"{package}."):
                child = ".".join(module.split(".")[:depth])
                inside = (other for other in others if other.startswith(f"{package}."))
                children[child] |= {".".join(other.split(".")[:depth]) for other in inside} - {child}
        cycles += [group for group in _groups(children) if len(group) > 1]
    return [list(cycle) for cycle in sorted({tuple(sorted(group)) for group in cycles})]


def _groups(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components, imported ones first (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            groups.append(stack[at:])
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups


def _settings(product: Mapping[str, ast.Module]) -> dict[str, int]:
    """Return the public fields of each settings class, those of bases counted once."""
    classes = {
        f"{name}:{node.name}": node
        for name, tree in product.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    known = {"BaseSettings"}
    found: dict[str, ast.ClassDef] = {}
    while added := {
        key: node
        for key, node in classes.items()
        if key not in found and any(ast.unparse(base).rpartition(".")[2] in known for base in node.bases)
    }:
        found |= added
        known |= {node.name for node in added.values()}
    return {
        key: sum(
            isinstance(each, ast.AnnAssign)
            and isinstance(each.target, ast.Name)
            and not each.target.id.startswith("_")
            and "ClassVar" not in ast.unparse(each.annotation)
            for each in node.body
        )
        for key, node in found.items()
    }


def _clashes(product: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """Return the public names that several files define, with the files."""
    files: dict[str, list[str]] = defaultdict(list)
    for name, tree in product.items():
        for each in sorted(set(_defined(tree)) - _ENTRY_POINTS):
            files[each].append(name)
    return {each: found for each, found in sorted(files.items()) if len(found) > 1}


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        names: list[str] = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def _file_clashes(product: Iterable[str]) -> dict[str, list[str]]:
    """Return the file names that several product folders use, with the files."""
    files: dict[str, list[str]] = defaultdict(list)
    for name in product:
        if not Path(name).name.startswith("__"):
            files[Path(name).name].append(name)
    return {name: found for name, found in sorted(files.items()) if len(found) > 1}


def report(house: House) -> str:
    """Return the figures, the fullest folders, the cycles and the clashes as text."""
    lines = [f"{name.replace('_', ' '):28}{value:>10,.6g}" for name, value in house.figures().items()]
    fullest = sorted(house.modules.items(), key=lambda item: (-item[1], item[0]))
    lines += ["", "modules per folder: " + ", ".join(f"{folder} {count}" for folder, count in fullest)]
    lines += ["import levels: " + ", ".join(f"{room} {count}" for room, count in house.levels.items())]
    lines += ["settings: " + ", ".join(f"{name} {count}" for name, count in house.settings.items())]
    lines += ["cycle: " + " <> ".join(cycle) for cycle in house.cycles]
    lines += [f"clash: {name} in {', '.join(files)}" for name, files in house.clashes.items()]
    lines += [f"file name: {name} in {', '.join(files)}" for name, files in house.file_clashes.items()]
    return "\n".join(lines) + "\n"


def excesses(limits: Mapping[str, Any], house: House) -> list[str]:
    """Return a sentence for each limit that a checkout exceeds."""
    found = [f"imports form a cycle: {' <> '.join(cycle)}" for cycle in house.cycles]
    for folder, count in house.modules.items():
        most = limits["fuller_folders"].get(folder, MOST_MODULES)
        if count > most:
            found.append(f"{folder} has {count} modules, expected at most {most}: give it rooms")
    for measure_name in ("import_levels", "public_settings"):
        value, most = house.figures()[measure_name], limits[measure_name]
        if value > most:
            found.append(f"{measure_name.replace('_', ' ')}: expected at most {most}, got {value:g}")
    for kind, clashes in (("name_clashes", house.clashes), ("file_name_clashes", house.file_clashes)):
        found += [
            f"{name} is defined in {' and '.join(files)}: one name per idea"
            for name, files in clashes.items()
            if name not in limits[kind]
        ]
    return found


def shrunk(limits: Mapping[str, Any], house: House) -> dict[str, Any]:
    """Return the limits lowered to a checkout's figures; none is raised."""
    figures = house.figures()
    fuller = {folder: min(most, house.modules.get(folder, 0)) for folder, most in limits["fuller_folders"].items()}
    return {
        "fuller_folders": {folder: most for folder, most in fuller.items() if most > MOST_MODULES},
        "import_levels": min(limits["import_levels"], int(figures["import_levels"])),
        "public_settings": min(limits["public_settings"], int(figures["public_settings"])),
        "name_clashes": [name for name in limits["name_clashes"] if name in house.clashes],
        "file_name_clashes": [name for name in limits["file_name_clashes"] if name in house.file_clashes],
    }


def result_rows(houses: Mapping[str, House]) -> list[Any]:
    """Return the figures of several checkouts as rows of a benchmark's result; the last one has the targets."""
    from benchmarks.figures import Row

    rows = []
    for case, house in houses.items():
        aimed = TARGETS if case == list(houses)[-1] else {}
        for metric, value in house.figures().items():
            most = aimed.get(metric)
            rows.append(
                Row(
                    case=case, metric=metric, value=value, low=value, high=value, runs=1, unit="count",
                    target=None if most is None else f"<= {most}", met=None if most is None else value <= most,
                )
            )  # fmt: skip
    return rows


def main() -> None:
    """Measure the folders that the arguments name and print or write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE=FOLDER", help="Checkouts to measure (default: this one).")
    parser.add_argument("--out", type=Path, help="JSON file for the figures, in the shape of benchmarks/results.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    parser.add_argument("--shrink", action="store_true", help="Lower docs/checks/limits.json to what is measured.")
    options = parser.parse_args()
    cases = dict(each.partition("=")[::2] for each in options.cases) or {"now": str(ROOT)}
    houses = {case: measure(Path(folder).resolve()) for case, folder in cases.items()}
    if options.shrink:
        kept = shrunk(json.loads(LIMITS.read_text(encoding="utf-8")), measure(ROOT))
        LIMITS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    elif options.out:
        sys.path.insert(0, str(ROOT))
        from benchmarks.figures import write_result

        command = f"python docs/checks/house.py {' '.join(f'{case}=FOLDER' for case in cases)} --out FILE"
        versions = {"grimp": grimp.__version__}
        write_result(options.out, name="house", command=command, seed=0, rows=result_rows(houses), versions=versions)
    elif options.json:
        sys.stdout.write(json.dumps({case: house.figures() for case, house in houses.items()}, indent=1) + "\n")
    else:
        for case, house in houses.items():
            sys.stdout.write((f"{case}\n" if len(houses) > 1 else "") + report(house))


if __name__ == "__main__":
    main()
