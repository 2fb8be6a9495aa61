"""Measure the project's style, and enforce two rules of it.

    python tools/style.py            print the figures; exit code 1 if a rule is broken

The rules: no function is longer than 60 lines, and no text has a word of `WORDS`. The other
figures (function lengths, broad `except`, public docstrings) are for comparison only.
"""

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_LINES = 60
# Archaic or indirect: plain technical English has a common word for each.
WORDS = (
    *("anew", "aught", "behold", "forth", "hence", "hereby", "hitherto", "lest", "likewise"),
    *("naught", "nigh", "nobody", "oneself", "shall", "so long as", "thence", "thereby"),
    *("therein", "thereof", "thither", "thus", "unto", "upon", "whence", "whereby", "wherein"),
    *("whereupon", "whither", "whoever", "whomever", "whosoever", "for ever"),
)
# A name: the account of the system.
ALLOWED = re.compile(r"account postgres or nobody\b")
# A value of a test ("of-nobody", postgresql://nobody@…) is no prose.
_WORD = re.compile(
    r"(?<![-/\"'|])\b(" + "|".join(WORDS).replace(" ", r"\s+") + r")\b(?![-@\"])", re.IGNORECASE
)
_CODE = ("src", "tests", "tools", "bench", "examples")
_TEXT = (
    *("*.md", "Makefile", "docs/**/*.md", "deploy/*.md", "web/*.md"),
    *("web/src/**/*.ts", "web/src/**/*.tsx"),
)
_GENERATED = {"schema.d.ts"}
_OWN = Path(__file__).resolve()

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> Iterator[Path]:
    """Yield the Python files below these folders of the project."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "node_modules" not in path.parts:
                yield path


def texts() -> Iterator[Path]:
    """Yield every file in which a person reads English."""
    yield from (path for path in sources(*_CODE) if path != _OWN)
    for pattern in _TEXT:
        yield from (path for path in sorted(ROOT.glob(pattern)) if path.name not in _GENERATED)


def functions(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of each function."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def long_functions(path: Path, text: str) -> Iterator[str]:
    """Yield a sentence for each function of the file that is too long."""
    for name, line, length in functions(ast.parse(text)):
        if length > MOST_LINES:
            yield f"{path}:{line}: {name} has {length} lines, more than {MOST_LINES}"


def odd_words(path: Path, text: str) -> Iterator[str]:
    """Yield a sentence for each word of `WORDS` in the text."""
    for found in _WORD.finditer(ALLOWED.sub(lambda name: " " * len(name[0]), text)):
        line = text.count("\n", 0, found.start()) + 1
        yield f"{path}:{line}: {found[0]!r} is not plain English"


def faults() -> Iterator[str]:
    """Yield what breaks a rule, a sentence each."""
    for path in texts():
        text = path.read_text("utf-8")
        shown = path.relative_to(ROOT)
        yield from odd_words(shown, text)
        if path.suffix == ".py":
            yield from long_functions(shown, text)


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Return whether it catches everything, or nearly."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"})
        for kind in kinds
    )


def public_docstrings(tree: ast.Module) -> Iterator[bool]:
    """For each public function and class, whether it has a docstring."""
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield ast.get_docstring(node) is not None


def figures(folder: str) -> str:
    """Return the figures of a folder, in a line."""
    lengths: list[int] = []
    documented: list[bool] = []
    lines = broad = 0
    for path in sources(folder):
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        lines += text.count("\n")
        lengths += [length for _, _, length in functions(tree)]
        documented += public_docstrings(tree)
        broad += sum(isinstance(n, ast.ExceptHandler) and is_broad(n) for n in ast.walk(tree))
    middle, tenth = statistics.median(lengths), statistics.quantiles(lengths, n=10)[-1]
    return (
        f"{folder}: {lines:,} lines; functions {middle:.0f} / {tenth:.0f} / {max(lengths)} lines "
        f"(median / p90 / longest); broad except {1000 * broad / lines:.2f} per 1,000 lines; "
        f"{sum(documented) / len(documented):.0%} of public names have a docstring"
    )


def main() -> int:
    """Print what breaks a rule, then the figures."""
    broken = list(faults())
    print("\n".join([*broken, *map(figures, ("src", "tests"))]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
