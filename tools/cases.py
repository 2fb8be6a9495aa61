"""Which tests prove which case: the last column of docs/reliability.md, from the tests' markers.

    python tools/cases.py       update the column

A test names its cases with `@pytest.mark.case(17)`; one that is called `test_case_17_…` must. A
module whose tests all belong to a case says `pytestmark = pytest.mark.case(17)`.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
_ROW = re.compile(r"^\| (\d+) \|(.*)\|([^|]*)\|$", re.MULTILINE)


def marked() -> dict[int, list[str]]:
    """Return the tests of each case, as Markdown links, in the order of files and lines."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        module = ast.parse(path.read_text("utf-8"))
        place = f"../{path.relative_to(ROOT).as_posix()}"
        for number in _of_module(module):
            found[number].append(f"[all of {path.name}]({place})")
        for name, numbers in _tests_of(module):
            for number in numbers:
                found[number].append(f"[{_sentence(name)}]({place})")
    return dict(found)


def _numbers(marker: ast.expr) -> list[int]:
    """Return the cases that a marker names."""
    if not isinstance(marker, ast.Call) or ast.unparse(marker.func) != "pytest.mark.case":
        return []
    return [
        argument.value
        for argument in marker.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    ]


def _of_module(module: ast.Module) -> list[int]:
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            markers = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            return [number for marker in markers for number in _numbers(marker)]
    return []


def _tests_of(module: ast.Module) -> Iterator[tuple[str, list[int]]]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            numbers = [
                number for decorator in node.decorator_list for number in _numbers(decorator)
            ]
            named = re.match(r"test_case_(\d+)_", node.name)
            if named is not None and int(named[1]) not in numbers:
                raise ValueError(f"{node.name} has no marker of case {named[1]}")
            if numbers:
                yield node.name, numbers


def _sentence(name: str) -> str:
    return re.sub(r"^test_(case_\d+_)?", "", name).replace("_s_", "'s_").replace("_", " ")


def rows(document: str) -> list[int]:
    """Return the numbers of the cases in the tables, in their order."""
    return [int(row[1]) for row in _ROW.finditer(document)]


def filled(document: str, tests: Mapping[int, list[str]]) -> str:
    """Return the document with the last column of every case's row updated."""

    def row(found: re.Match[str]) -> str:
        listed = "<br>".join(tests.get(int(found[1]), ["none"]))
        return f"| {found[1]} |{found[2]}| {listed} |"

    return _ROW.sub(row, document)


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text("utf-8"), marked()), "utf-8")
