"""The container image: built from the lock, of what the project needs to run, and of files that are there."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text().splitlines()
COPIED = [
    name for line in DOCKERFILE if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]
]
DATA = {".py", ".sql", ".lua", ".toml", ".mako"}


def locked(name: str) -> dict[str, str]:
    """Each pin of a lock, with its marker, to its hashes."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / name).read_text(), flags=re.MULTILINE).replace(" \\\n", " ")
    return {line.split(" --hash")[0].strip(): line.partition(" --hash")[2] for line in text.splitlines()}


def packages(name: str) -> set[str]:
    return {canonicalize_name(pin.partition("==")[0]) for pin in locked(name)}


def needed(project: str, extras: frozenset[str]) -> set[str]:
    """Whatever is installed because of the project, on this interpreter."""
    found: set[str] = set()
    todo = [(project, extras)]
    while todo:
        name, of = todo.pop()
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *of)):
                continue
            known = canonicalize_name(requirement.name)
            if known not in found or requirement.extras:
                todo.append((known, frozenset(requirement.extras)))
            found.add(known)
    return found - {project}


def test_the_image_has_a_part_of_the_one_lock() -> None:
    whole = locked("requirements.lock")
    part = locked("requirements-image.lock")
    assert part
    assert {pin: hashes for pin, hashes in part.items() if whole.get(pin) != hashes} == {}
    assert all("sha256:" in hashes for hashes in part.values())


def test_it_has_all_that_it_needs_and_nothing_of_development() -> None:
    here = packages("requirements-image.lock")
    assert needed("stoker", frozenset({"image"})) <= here
    assert not {"pytest", "ruff", "mypy", "hypothesis", "playwright", "check-jsonschema"} & here


def test_the_dockerfile_takes_files_that_are_there_and_let_in() -> None:
    rules = (REPOSITORY / ".dockerignore").read_text().split()
    assert rules[0] == "*"
    assert {f"!{name}" for name in COPIED} == {rule for rule in rules if rule.startswith("!")}
    assert all((REPOSITORY / name).exists() for name in COPIED)


def test_it_is_pinned_and_its_default_is_nobody_of_importance() -> None:
    bases = [line.split()[1] for line in DOCKERFILE if line.startswith("FROM ")]
    assert {base for base in bases if ":" in base} == {"python:3.13-slim-bookworm"}
    assert DOCKERFILE[-1] == "USER 10001:10001"
    assert "--require-hashes" in " ".join(DOCKERFILE)


def test_images_are_named_by_this_version() -> None:
    version = importlib.metadata.version("stoker")
    kustomizations = [f"deploy/kubernetes/{part}/kustomization.yaml" for part in ("process", "pods", "network")]
    for name in ("compose.yaml", *kustomizations):
        named = re.findall(r"image: stoker\S*:(\S+)|newTag: (\S+)", (REPOSITORY / name).read_text())
        assert {"".join(tag) for tag in named} == {version}, name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in what the Dockerfile's second pip step installs, built of the files that it copies."""
    folder = tmp_path_factory.mktemp("image")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    build = ["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    subprocess.run([sys.executable, *build, "--wheel-dir", folder / "out", folder], check=True)
    [made] = (folder / "out").glob("*.whl")
    with zipfile.ZipFile(made) as opened:
        return set(opened.namelist())


def test_what_is_installed_has_every_module_and_every_data_file(wheel: set[str]) -> None:
    rooms = [name for name in COPIED if (REPOSITORY / name).is_dir()]
    files = {
        str(path.relative_to(REPOSITORY))
        for room in rooms
        for path in (REPOSITORY / room).rglob("*")
        if path.suffix in DATA and "__pycache__" not in path.parts
    }
    assert files <= wheel
