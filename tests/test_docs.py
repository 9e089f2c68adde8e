"""Pages say what is so: invariants name tests and constraints that exist, states are the tables', links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from scheduler.store.schema import metadata
from tests.support import states_page

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "invariants.md").read_text()
SECTIONS = {part.split(":", 1)[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
THREATS = (ROOT / "docs" / "security.md").read_text()
NAMED_TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE + THREATS)))
NAMED_FILES = sorted(set(re.findall(r"`((?:config|scheduler|tasks|demo|tests)/[\w/]+\.(?:py|sql|lua))", PAGE)))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
CLOCK = re.compile(r"datetime\.now|utcnow|time\.time\(|time_ns\(|date\.today")


def test_all_invariants_are_there() -> None:
    known = (*range(1, 13), *range(20, 29), *range(30, 36), *range(40, 43), 50, 51, *range(60, 63))
    assert list(SECTIONS) == [f"I{number}" for number in known]


@pytest.mark.parametrize("invariant", SECTIONS)
def test_each_says_where_it_stands_and_what_shows_it(invariant: str) -> None:
    section = SECTIONS[invariant]
    assert re.search(r"- Code: .*`", section)
    assert re.search(r"- Shown by:\n(  - `tests/\S+`\n?)+", section)


@pytest.mark.parametrize(("file", "name"), NAMED_TESTS, ids=str)
def test_a_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("file", NAMED_FILES)
def test_a_named_file_exists(file: str) -> None:
    assert (ROOT / file).is_file()


def test_the_constraints_it_names_are_those_of_the_tables() -> None:
    guards = "".join(path.read_text() for path in sorted((ROOT / "scheduler/store/sql").glob("*.sql")))
    constraints = {str(c.name) for table in metadata.sorted_tables for c in table.constraints}
    known = {re.sub(r"^ck_(operation_needs|[a-z]+)_", "", name) for name in constraints}
    known |= {str(index.name) for table in metadata.sorted_tables for index in table.indexes}
    known |= set(re.findall(r"(?:trigger |(?:broken :|constraint )= ')(\w+)", guards))
    for section in SECTIONS.values():
        said = re.search(r"- Constraint: (.*?)\n- ", section, flags=re.DOTALL)
        named = set(re.findall(r"`(\w+)`", said[1])) - set(metadata.tables) if said else set()
        assert named <= known


def test_only_the_database_tells_the_time_of_what_is_stored() -> None:
    for path in (ROOT / "scheduler").rglob("*.py"):
        assert not CLOCK.search(path.read_text()), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = _FENCED.sub("", page.read_text())
    for target in _LINK.findall(text):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = set(_LINK.findall(index.read_text()))
    assert {page.name for page in index.parent.glob("*.md")} - {index.name} <= linked


def anchors(page: Path) -> set[str]:
    """What GitHub makes of its headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_states_are_drawn_as_the_tables_say() -> None:
    assert states_page.PAGE.read_text() == states_page.page(), "make docs"
