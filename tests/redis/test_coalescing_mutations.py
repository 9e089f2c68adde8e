"""Every guard of the coalescing scripts is there for something: broken, it is noticed by the scenario that it is there for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from scheduler.redis.connection import connect
from tests.support.coalescing import TEXTS, World
from tests.support.coalescing_scenarios import SCENARIOS
from tests.support.servers import Servers

# What decides nothing and changes nothing: names, ends of blocks, loops over what there is, and answers.
PLAIN = re.compile(r"--|local |for |return|end$|else$|count\(|reply\[|$")
# A broken script says something else, or fails in what follows from it.
NOTICED = (AssertionError, redis.ResponseError, KeyError, ValueError)


@dataclass(frozen=True)
class Mutation:
    name: str
    script: str
    scenario: str
    old: str
    new: str
    changed: tuple[str, ...]  # the lines of the script that are not what they were

    def apply(self) -> dict[str, str]:
        text = TEXTS[self.script]
        assert f"\n{text}".count(f"\n{self.old}") == 1, f"{self.name}: its lines are not in {self.script}.lua once"
        return TEXTS | {self.script: text.replace(self.old, self.new)}


def mutations() -> list[Mutation]:
    found = []
    parts = re.split(
        r"^==== (\w+)\n", Path(__file__).with_name("coalescing_mutations.diff").read_text(), flags=re.MULTILINE
    )
    for script, text in zip(parts[1::2], parts[2::2], strict=True):
        for block in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
            name, scenario, *lines = block.rstrip("\n").split("\n")
            old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] in signs) for signs in (" -", " +"))
            changed = tuple(line[1:] for line in lines if line[0] == "-")
            found.append(Mutation(name, script, scenario.removeprefix("@@ "), old, new, changed))
    return found


MUTATIONS = mutations()


@pytest.fixture(scope="module")
def client(servers: Servers) -> Iterator[redis.Redis]:
    opened = connect(servers.redis_client_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.script}: {m.name}")
def test_a_broken_guard_is_noticed(client: redis.Redis, mutation: Mutation) -> None:
    with closing(World(client, mutation.apply())) as world, pytest.raises(NOTICED):
        SCENARIOS[mutation.scenario](world)


@pytest.mark.parametrize("script", TEXTS)
def test_every_line_that_decides_or_changes_something_is_broken_here(script: str) -> None:
    broken = {line for mutation in MUTATIONS if mutation.script == script for line in mutation.changed}
    assert [line for line in TEXTS[script].splitlines() if not PLAIN.match(line.strip()) and line not in broken] == []


def test_names_are_unique() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names)
