"""What ``mien study`` does."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table

from mien import training
from mien.cli import shared
from mien.cli.laboratory import StudyOptions, TrainOptions
from mien.cli.study_plan import Plan, plan_search, sentences
from mien.cli.train import settings_in, telling_how_to_go_on, training_progress
from mien.data import FaceSamples, votes_on
from mien.errors import CallError, Interrupted
from mien.evaluation.majority import Majority
from mien.recipe import DataSettings, Recipe, brought, find_recipe, load_recipe
from mien.report import format as formats
from mien.report.run_page import is_current, write_run_page
from mien.report.search_section import search_rows, search_sentences
from mien.report.study_conclusions import conclusion_sentences
from mien.report.study_page import write_study_page
from mien.runs import Run, Subset
from mien.study import comparison, load_study, load_suite, run_study
from mien.study.folder import row_name
from mien.study.grid import MAX_TRIES, grid_rows, parse_grid
from mien.study.halving import SearchSpace, run_search
from mien.study.search import Search, find_tries, known_names, read_search
from mien.study.suites import PlannedRow, Suite, SuiteRow, check_names, kept_partners, plan, rows_of, within


def study(
    options: TrainOptions,
    what: StudyOptions,
    reading: shared.Reading,
    data: str | None,
    out: Path | None,
    recipes: Sequence[str],
    kind: str,
) -> None:
    """The command, see ``cli.laboratory``."""
    suite = None if what.suite is None else load_suite(what.suite)
    chosen = _rows(suite, recipes, what)
    rows, search = _searched(settings_in(chosen, options), what, out)
    runs = plan(rows, what.seeds or (suite.seeds if suite else 1))
    tries = None if search is None or not what.plan else plan_search(runs, search, what.halving, out)
    planned = Plan(suite, what.budget, tuple(runs), tries)
    _tell_unknown(runs)
    partners = [] if search else kept_partners(chosen, rows)
    shared.print_notes(sentences("partners.txt.j2", {"partners": partners}))
    if what.plan:
        shared.print_answer(planned.content(), planned.text(), kind)
        return
    shared.print_notes(sentences("beside.txt.j2", {"plan": planned}))
    if data is None or out is None:
        missing = "--data" if data is None else "--out"
        raise CallError(f"expected {missing}, got none; give it, or --plan to see what would be trained")
    stored = _stored([each.recipe for each in runs])
    shared.messages.print(f"reading {data}")
    _train(runs, search, reading.read(data, stored), out, options, what, kind)


def _rows(suite: Suite | None, names: Sequence[str], what: StudyOptions) -> tuple[SuiteRow, ...]:
    """The suite's rows within the budget, and the recipes beside them."""
    if suite is None and not names:
        raise CallError(
            f"expected recipes or a suite, got neither; give recipes, or --suite {', '.join(brought('suites'))}"
        )
    rows: tuple[SuiteRow, ...] = ()
    if suite is not None:
        rows = suite.rows if what.budget is None else within(suite, what.budget)
    elif what.budget is not None:
        raise CallError(f"expected a suite with --budget {what.budget}, got recipes alone; give --suite published, too")
    rows += rows_of(find_recipe(name) for name in names)
    check_names(rows)
    return rows


def _searched(
    rows: tuple[SuiteRow, ...], what: StudyOptions, out: Path | None
) -> tuple[tuple[SuiteRow, ...], SearchSpace | None]:
    """With a grid, the rows of its combinations, and what is searched."""
    if not what.grid:
        if what.halving:
            raise CallError(
                "expected a search with --halving, got none; give its values: --grid optimizer.lr=0.01,0.03"
            )
        return rows, None
    if len(rows) != 1:
        raise CallError(f"expected one recipe with --grid, got {len(rows)}; search each in a folder of its own")
    grid, base = parse_grid(what.grid), load_recipe(rows[0].recipe, rows[0].overrides).name
    known = {} if out is None else known_names(find_tries(out, base))
    return grid_rows(rows[0], grid, max_tries=what.max_tries or MAX_TRIES, known=known), SearchSpace(base, tuple(grid))


def _tell_unknown(runs: Sequence[PlannedRow]) -> None:
    """Note which rows took a setting for all rows, where others do not know it."""
    rows = {run.row.name: run.row for run in runs}
    for setting in dict.fromkeys(setting for row in rows.values() for setting in row.unknown):
        taken = [name for name, row in rows.items() if setting not in row.unknown]
        unknown = [name for name, row in rows.items() if setting in row.unknown]
        shared.messages.print(f"{setting}: taken by {', '.join(taken)}; not known to {', '.join(unknown)}")


def _stored(recipes: Sequence[Recipe]) -> DataSettings:
    """How the recipes of a study want the pictures stored, all of them alike."""
    kinds: dict[tuple[object, ...], list[Recipe]] = {}
    for each in recipes:
        kinds.setdefault((each.data.size, each.data.color, each.data.group), []).append(each)
    if len(kinds) > 1:
        told = "; ".join(
            f"{', '.join(dict.fromkeys(each.name for each in alike))}: {size or 48} px, {'RGB' if color else 'grey'}"
            f"{f', by subject ({group})' if group else ''}"
            for (size, color, group), alike in kinds.items()
        )
        raise CallError(
            "expected recipes with one data.size, data.color and data.group, since a study reads its data once, got"
            f" {told}; give them to all, such as --set data.size=96, or make a study of each"
        )
    return recipes[0].data


class _Pages:
    """The pages of a study's runs and its own, each written where its results are newer; needs no lock.

    Another process that shares the study may write the study's page at the same time. Each looks again once it has
    written, so that the last one is of all results.
    """

    def __init__(self, out: Path, samples: FaceSamples, command: str, *, pictures: bool) -> None:
        self._out, self._samples, self._command, self._pictures = out, samples, command, pictures
        self._is_due = False

    def add(self, run: Run) -> None:
        """Write a run's page and the study's, unless the run had its page before: then only the last of all does."""
        self._is_due = True
        if not is_current(run, pictures=self._pictures):
            shared.messages.print(f"writing the page of {run.path.name}")
            write_run_page(run, self._samples, pictures=self._pictures)
            self.write()

    def write(self) -> None:
        """Write the study's page of what it holds now."""
        while self._is_due and training.is_first_process():
            found = load_study(self._out)
            write_study_page(
                self._out, found.reports, self._samples, command=self._command, pictures=self._pictures,
                left_out=found.left_out, unfinished=found.unfinished,
            )  # fmt: skip
            self._is_due = load_study(self._out) != found


def _train(
    runs: Sequence[PlannedRow],
    search: SearchSpace | None,
    samples: FaceSamples,
    out: Path,
    options: TrainOptions,
    what: StudyOptions,
    kind: str,
) -> None:
    command = shared.command_line()
    pages = _Pages(out, samples, command, pictures=not options.no_pictures)
    with telling_how_to_go_on(), shared.catching_signals() as stop_signal, training_progress() as show:
        train = partial(
            run_study,
            samples=samples,
            out=out,
            skip_unavailable=what.skip_unavailable,
            devices=options.devices,
            accelerator=options.accelerator,
            command=command,
            votes=None if options.votes is None else votes_on(samples, options.votes),
            show=lambda run, progress: show(run.path.name, progress),
            show_pictures=shared.showing_work(),
            say=shared.messages.print,
            stop_signal=stop_signal,
        )
        recipes = [each.recipe for each in runs]
        if search is None:
            finished = train(recipes, final=what.final)
        else:
            finished = run_search(
                recipes, train, samples, out, search=search, halving=what.halving, final=what.final,
                say=shared.messages.print, stop_signal=stop_signal,
            )  # fmt: skip
        try:
            for run in finished:
                pages.add(run)
        except Interrupted:
            if search is None:
                _tell_unfinished([Run(out / f"{each.name}-s{each.seed}") for each in recipes])
            raise
        finally:
            pages.write()
    if training.is_first_process():
        _answer(out, search is not None, kind)


def _tell_unfinished(runs: Sequence[Run]) -> None:
    names = [run.path.name for run in runs if not run.report_path.exists()]
    if names and training.is_first_process():
        shared.messages.print(f"not finished: {len(names)} of {len(runs)} rows, {', '.join(names)}")


def _answer(out: Path, is_search: bool, kind: str) -> None:
    """Print what the study's page says, in short."""
    content = json.loads((out / "study.json").read_text(encoding="utf-8"))
    chosen = read_search(out) if is_search else None
    reports = load_study(out).reports
    text = comparison_text(comparison.compare(out, reports)) if chosen is None else _search_text(chosen)
    shared.print_answer(content, text, kind)
    untested = [row_name(report) for report in reports if not any(found.is_test for found in report.results)]
    if chosen is None and len(untested) < len(reports):
        shared.print_notes(sentences("untested.txt.j2", {"untested": untested}))
    shared.messages.print(str(out / "index.html"))


def comparison_text(rows: Sequence[comparison.ComparedRow]) -> RenderableType:
    """The comparison of the study's page in short, beside FER-2013's published accuracies, and what the page says."""
    return Group(_comparison_table(rows), *conclusion_sentences(rows))


def _comparison_table(rows: Sequence[comparison.ComparedRow]) -> Table:
    """A line per model; columns that would be empty in all of them are left out."""
    first = rows[0].result
    lines = [_line(row) for row in rows]
    if (always := rows[0].always()) is not None:
        lines.append(_always_line(always, rows[0].always(Subset.UNSEEN)))
    names = [name for name in lines[0] if any(line.get(name) for line in lines[: len(rows)])]
    title = f"Accuracy on {first.n:,} {formats.split_plural(first)}"
    table = shared.create_table(title, names[:1], names[1:])
    for line in lines:
        table.add_row(*(line.get(name) or formats.DASH for name in names))
    return table


def _line(row: comparison.ComparedRow) -> dict[str, str | None]:
    """Title of a column -> what a model has there."""
    return {
        "model": row.title,
        "seeds": str(len(row.reports)),
        "accuracy": _rate(row.accuracy),
        "95 % interval": formats.interval(row.interval),
        "unseen": None if row.unseen is None else _rate(row.unseen),
        "published": formats.percent(row.published["accuracy"]) if row.published and row.result.is_test else None,
        "F1": f"{row.spread('macro_f1').mean:.3f}",
        "minutes": None if row.train_seconds is None else f"{row.train_seconds / 60:.1f}",
    }


def _always_line(always: Majority, unseen: Majority | None) -> dict[str, str | None]:
    return {
        "model": f"always {always.name}",
        "accuracy": formats.percent(always.accuracy.value),
        "95 % interval": None if always.accuracy.ci95 is None else formats.interval(always.accuracy.ci95),
        "unseen": None if unseen is None else formats.percent(unseen.accuracy.value),
        "F1": f"{always.macro_f1.value:.3f}",
    }


def _search_text(search: Search) -> RenderableType:
    """Every try, and what the page says of them."""
    title = f"Accuracy on {search.n:,} validation images, 95 % intervals of all tries together"
    table = shared.create_table(title, list(search.keys), ["seeds", "epochs", "accuracy", "95 % interval", "minutes"])
    table.add_column("")
    for row in search_rows(search):
        found = row.tried
        table.add_row(
            *row.values,
            str(len(found.runs)),
            str(found.epochs) if found.is_finished else f"{found.epochs} of {row.epochs_of}",
            formats.percent(row.accuracy),
            formats.DASH if row.interval is None else formats.interval(row.interval),
            formats.fixed(row.seconds / 60, 1),
            row.verdict,
        )
    return Group(table, *search_sentences(search))


def _rate(found: comparison.Spread) -> str:
    between_seeds = "" if found.deviation is None else f" ± {100 * found.deviation:.1f}"
    return formats.percent(found.mean) + between_seeds
