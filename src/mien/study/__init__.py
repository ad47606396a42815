"""Recipes x seeds -> one comparison."""

from mien.study.runner import run_study
from mien.study.suites import SUITES, suite_recipes

__all__ = ["SUITES", "run_study", "suite_recipes"]
