"""Recipes x seeds -> one comparison."""

from mien.study.folder import Study, load_study
from mien.study.runner import run_study
from mien.study.suites import load_suite

__all__ = ["Study", "load_study", "load_suite", "run_study"]
