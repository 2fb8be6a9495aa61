"""Every case of docs/reliability.md is proved by tests, and every marker has its case there."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.cases import DOCUMENT, ROOT, filled, marked, rows


def test_every_case_has_a_test_and_every_marker_a_case() -> None:
    numbers = rows(DOCUMENT.read_text())
    assert numbers == sorted(set(numbers)), "in order, each once"
    assert len(numbers) >= 35
    assert sorted(marked()) == numbers


def test_the_table_names_the_tests_that_are_marked() -> None:
    document = DOCUMENT.read_text()
    assert document == filled(document, marked()), "update it: python tools/cases.py"


def test_cases_that_the_threat_model_names_exist() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    named = re.findall(r"\bcases? (\d[\d,]*(?:(?: |, | to | and )\d+)*)", text)
    numbers = {int(number) for group in named for number in re.findall(r"\d+", group)}
    assert len(numbers) > 20
    assert numbers <= set(rows(DOCUMENT.read_text()))
