"""The command line: `stoker`. Everything that prints for people prints the same with --json for programs."""

from tasks.cli.main import main

__all__ = ["main"]
