"""Finished runs -> a folder that may be shown to anyone: what every figure follows from, and pages without faces."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from mien.evaluation.report import write_report
from mien.recipe import load_recipe
from mien.runs import Run, load_run, write_text
from mien.study.answer import questions
from mien.study.comparison import compare
from mien.study.effects import entries_of, setting_effects
from mien.study.page import write_index
from mien.study.published import PUBLISHED

KEPT = ("recipe.toml", "report.json", "metrics.jsonl", "looks.jsonl", "robustness.json")
"""Weights, optimizer state and pages stay behind: pages can show faces, and both follow from what is kept."""


def anonymous(text: str) -> str:
    """Commands without the places of files on the machine where they ran; names below the project stay.

    Text of JSON or TOML stays readable as such: a quote in it may be escaped.
    """
    text = re.sub(r"--votes [^ \"'\\]+", "--votes fer2013new.csv", text)
    text = re.sub(r"(?<=\")[.~]{0,2}/(?!/)[^\"\\]*(?=\\?\")", "PATH", text)  # in double quotes, with spaces in it
    text = re.sub(r"'([^' \"]*[:=])?[.~]{0,2}/[^'\"]*'", r"'\1PATH'", text)  # in single quotes
    return re.sub(r"(?<=[ :='\"])[.~]{0,2}/(?!/)[^ \"'\\]*", "PATH", text)


def publish_run(run: Run, study: Path) -> Run:
    """Copy a finished run into the folder of a study, without paths, weights and faces, and write its pages.

    What stood there under its name is replaced.

    Raises:
        MissingPathError: there is no such run.
        RunError: it is not finished.
    """
    load_run(run.path).report()
    target = Run(study / run.path.name)
    kept = {name: (run.path / name).read_text(encoding="utf-8") for name in KEPT if (run.path / name).exists()}
    shutil.rmtree(target.path, ignore_errors=True)
    for name, text in kept.items():
        write_text(target.path / name, anonymous(text))
    if run.recipe_path.exists() and target.recipe_path.read_bytes() != run.recipe_path.read_bytes():
        # Without its paths the recipe has another hash.
        target.write_report({**target.report(), "recipe_sha256": load_recipe(target.recipe_path).sha256()})
    shutil.copytree(run.path / "predictions", target.path / "predictions")
    write_report(target, pictures=False)
    return target


def write_study_page(study: Path) -> None:
    """Write the ``index.html`` of a folder that holds several runs of a study, without a face; else do nothing."""
    content = study_content(study)
    if len(content["rows"]) > 1:
        write_index(study, content, pictures=False)


def study_content(study: Path) -> dict[str, Any]:
    """What ``study.json`` would hold of the runs that lie in a folder, ``<recipe>-s<seed>``."""
    reports = [(path.parent.name, json.loads(path.read_text())) for path in sorted(study.glob("*/report.json"))]
    rows = [report for name, report in reports if name == f"{report['recipe']}-s{report.get('seed')}"]
    return {"published": PUBLISHED, "rows": rows}


def study_questions(study: Path) -> list[str]:
    """The published study's questions with the answers of a folder of runs, as they stand on its page."""
    rows = compare(study, study_content(study))
    entries = entries_of(rows)
    return [] if entries is None else questions(rows, setting_effects(rows, entries))
