"""The commands that need no extra, which are imported when they are called; their datas are those of hook-mien.py."""

from mien.cli.app import COMMANDS

hiddenimports = [f"mien.cli.{command.module}" for command in COMMANDS.values() if command.extra is None]
