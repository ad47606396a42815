"""The command line: parse, call, print. The only place where errors become exit codes."""

from mien.cli.app import app, main

__all__ = ["app", "main"]
