"""How PyInstaller freezes a program that uses mien: the entry point ``pyinstaller40`` leads it here by itself."""

from pathlib import Path


def hook_folders() -> list[str]:
    """Where PyInstaller finds ``hook-mien.py``."""
    return [str(Path(__file__).parent)]
