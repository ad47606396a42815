"""Tables in Markdown: of the README, of ``results/``, and of all runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.report.html import create_environment
from mien.report.study_conclusions import ASKED_OF, answers
from mien.runs import Report
from mien.runs.report import common_split
from mien.study.comparison import ComparedRow, compare
from mien.study.effects import entries_of, setting_effects
from mien.study.published import PUBLISHED, deviations
from tools.published import PublishedRun, shipped, single_effects, study_reports

ASKED = ("transfer", "controlled")
"""Studies that answer the published study's questions."""

SECTIONS = ("table", "answers", "shipped")
"""Parts of the README that are written here, between ``<!-- NAME: tools/publish -->`` and ``<!-- end of NAME -->``."""


@dataclass(frozen=True)
class BestModel:
    """The runs of a recipe that are best on validation.

    Attributes:
        title: the recipe's name, or the folder's of an ensemble.
        folder: of the first run, below ``results/``.
        compared: the runs, seeds together, on their most final test split.
    """

    title: str
    folder: str
    compared: ComparedRow

    @property
    def report(self) -> Report:
        """Report of the first seed."""
        return self.compared.report


def render(template: str, **values: Any) -> str:
    """A template of this folder, or of ``mien.report``, as text with one line end at its end."""
    environment = create_environment(Path(__file__).parent / "templates", escape=False)
    lines = environment.get_template(template).render(**values).strip().splitlines()
    return "\n".join(line for line in lines if line.strip() or template not in COMPACT) + "\n"


COMPACT = ("answers.md.j2", "effects.md.j2", "replication.md.j2", "shipped.md.j2")
"""Templates of which empty lines are dropped: parts of other texts."""


def readme_sections(results: Path, runs: Sequence[PublishedRun]) -> dict[str, str]:
    """Name in ``SECTIONS`` -> Markdown."""
    order = list(PUBLISHED["rows"])
    replications = sorted(
        (each for each in runs if each.study.startswith("published") and each.result.split == PUBLISHED["split"]),
        key=lambda each: (order.index(each.report.recipe), -(each.report.input_size or 0), each.report.seed or 0),
    )
    lines = [(each, PUBLISHED["rows"][each.report.recipe], deviations(each.run, each.report)) for each in replications]
    studies = []
    for name in ASKED:
        rows = compare(results / name, study_reports(results / name))
        entries = entries_of(rows)
        studies.append((name, answers(rows, [] if entries is None else setting_effects(rows, entries))))
    return {
        "table": render("replication.md.j2", runs=lines),
        "answers": render("answers.md.j2", studies=studies, published=PUBLISHED["rows"][ASKED_OF]),
        "shipped": render("shipped.md.j2", cards=shipped()),
    }


def with_sections(readme: str, sections: dict[str, str]) -> str:
    """The README with today's tables."""
    for name, content in sections.items():
        begin, end = f"<!-- {name}: tools/publish -->", f"<!-- end of {name} -->"
        before, rest = readme.split(begin)
        readme = f"{before}{begin}\n{content}{end}{rest.split(end)[1]}"
    return readme


def best_models(runs: Sequence[PublishedRun]) -> list[BestModel]:
    """One line a recipe with test results, the most accurate first.

    Of several studies the one that is best on validation in one view; in ten views only where there is no other.
    """
    groups: dict[str, dict[tuple[str, int], list[PublishedRun]]] = {}
    for each in runs:
        if each.result.is_test:
            name = each.run.path.name if each.report.members else each.report.recipe
            groups.setdefault(name, {}).setdefault((each.study, each.result.views), []).append(each)
    found = [_best(name, list(studies.values())) for name, studies in groups.items()]
    return sorted(found, key=lambda each: -each.compared.accuracy.mean)


def _best(name: str, studies: Sequence[Sequence[PublishedRun]]) -> BestModel:
    chosen = max(studies, key=lambda runs: (-runs[0].result.views, _on_validation(runs)))
    seeds = sorted(chosen, key=lambda each: each.report.seed or 0)
    reports = tuple(each.report for each in seeds)
    row = ComparedRow(name, tuple(each.run for each in seeds), reports, common_split(reports))
    return BestModel(name, seeds[0].name, row)


def _on_validation(runs: Sequence[PublishedRun]) -> float:
    """Mean accuracy on validation, 0 where it was not measured."""
    found = [each.report.result("validation") for each in runs]
    return sum(0.0 if each is None else each.accuracy.value for each in found) / len(found)


def results_tables(runs: Sequence[PublishedRun]) -> dict[str, str]:
    """File name below ``results/`` -> Markdown: one line a model, and the effects of single settings."""
    effects = single_effects(runs)
    table = render("effects.md.j2", effects=effects).strip()
    return {
        "README.md": render("results.md.j2", rows=best_models(runs), count=len(runs)),
        "ablations.md": render("ablations.md.j2", table=table),
    }


def long_table(runs: Sequence[PublishedRun], studies: Sequence[str]) -> str:
    """Every run, every effect, times, machines and commands; ``studies`` have a page of their own."""
    table = render("effects.md.j2", effects=single_effects(runs)).strip()
    return render("all.md.j2", runs=runs, studies=studies, table=table)
