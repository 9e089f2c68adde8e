"""The first step of a container's process: a root of its own, of this machine's programs; then its user and its rights.

Run in a new mount namespace, with a plan as JSON: see `tests.support.containers`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAMS = ("usr", "bin", "sbin", "lib", "lib64")
OF_ETC = ("ld.so.cache", "nsswitch.conf", "alternatives")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def bind(source: Path, target: Path, *, writable: bool) -> None:
    """The file or folder at another place as well."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount("--bind", source, target)
    if not writable:
        mount("-o", "remount,bind,ro", target)


def lend(path: Path, target: Path) -> None:
    """A folder of this machine's programs, read-only."""
    if path.is_symlink():
        target.symlink_to(path.readlink())
    elif path.exists():
        bind(path, target, writable=False)


def copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target, symlinks=True)
    elif path.exists():
        shutil.copy(path, target)


def make_root(root: Path, plan: dict[str, Any]) -> None:
    root.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=0755", "root", root)
    for name in PROGRAMS:
        lend(Path("/", name), root / name)
    for name in ("proc", "dev", "etc", "tmp", "var/lib", "run"):
        (root / name).mkdir(parents=True)
    mount("-t", "proc", "proc", root / "proc")
    mount("--rbind", "/dev", root / "dev")
    for name in OF_ETC:
        copy(Path("/etc", name), root / "etc" / name)
    for name, text in plan["etc"].items():
        (root / "etc" / name).write_text(text)
    for source, target, writable in plan["binds"]:
        bind(Path(source), root / target.lstrip("/"), writable=writable)
    if plan["read_only"]:
        mount("-o", "remount,ro", root)


def main() -> None:
    plan = json.loads(sys.argv[1])
    root = Path(plan["root"])
    make_root(root, plan)
    os.chroot(root)
    os.chdir(plan["cwd"])
    user, group = plan["user"]
    rights = [f"--reuid={user}", f"--regid={group}", "--clear-groups", "--inh-caps=-all"]
    rights.append(f"--bounding-set={','.join(['-all', *(f'+{name.lower()}' for name in plan['capabilities'])])}")
    if plan["no_new_privileges"]:
        rights.append("--no-new-privs")
    os.execve(  # noqa: S606 - no shell: the container's own command
        "/usr/bin/setpriv", ["setpriv", *rights, "--", *plan["argv"]], plan["environment"]
    )


if __name__ == "__main__":
    main()
