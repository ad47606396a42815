"""Recipes x seeds -> one comparison."""

from mien.study.study import run_study
from mien.study.suites import SUITES, find_recipe, suite_recipes

__all__ = ["SUITES", "find_recipe", "run_study", "suite_recipes"]
