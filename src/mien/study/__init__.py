"""Recipes x seeds -> one comparison."""

from mien.study.folder import Study, load_study
from mien.study.runner import run_study
from mien.study.suites import SUITES, suite_recipes

__all__ = ["SUITES", "Study", "load_study", "run_study", "suite_recipes"]
