"""``mien study``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from rich.console import Group, RenderableType
from rich.table import Table
from typer import Argument, Option

from mien import training
from mien.cli import shared
from mien.cli.study_plan import Plan, plan_search
from mien.cli.train import TrainOptions, showing_progress, telling_how_to_go_on
from mien.data import FaceSamples, votes_on
from mien.errors import CallError
from mien.evaluation.majority import Majority
from mien.recipe import DataSettings, Recipe, brought, find_recipe, load_recipe
from mien.report import format as formats
from mien.report.run_page import write_run_page
from mien.report.search_section import search_rows, search_sentences
from mien.report.study_conclusions import conclusion_sentences
from mien.report.study_page import write_study_page
from mien.runs import Subset, locked
from mien.study import comparison, load_study, load_suite, run_study
from mien.study.grid import MAX_TRIES, grid_rows, parse_grid
from mien.study.halving import Searched, run_search
from mien.study.search import Search, find_tries, known_names, read_search
from mien.study.suites import PlannedRow, Suite, SuiteRow, check_names, plan, rows_of, within


@dataclass(frozen=True)
class StudyOptions:
    """What ``study`` takes beside ``TrainOptions``: each field is an option (``app.spread``)."""

    suite: Annotated[
        str | None,
        Option(metavar="NAME|FILE", help=f"{', '.join(brought('suites'))}; or a file."),
    ] = None
    budget: Annotated[
        str | None, Option(metavar="minutes|laptop|gpu|full", help="The suite's settings for some time; see --plan.")
    ] = None
    seeds: Annotated[int | None, Option(min=1, help="Runs of each recipe, seeds 0, 1, ...; 1 or the suite's.")] = None
    final: Annotated[bool, Option("--final", help="Also look at the test splits; noted in looks.jsonl.")] = False
    skip_unavailable: Annotated[
        bool, Option("--skip-unavailable", help="Leave out rows whose weights cannot be had, instead of refusing.")
    ] = False
    grid: Annotated[
        list[str] | None,
        Option(metavar="a.b=v,w", help="Try every combination of these values, and choose one on validation."),
    ] = None
    halving: Annotated[
        bool, Option("--halving", help="Of a grid, train the better half on at each of some epochs.")
    ] = False
    max_tries: Annotated[int, Option(min=1, help="Combinations of a grid at most.")] = MAX_TRIES
    plan: Annotated[bool, Option("--plan", help="Say what would be trained, and in which time; train nothing.")] = False


def study(
    options: TrainOptions,
    what: StudyOptions,
    reading: shared.Reading,
    data: Annotated[str | None, Option(metavar="SPEC", help="As train's; --plan needs none.")] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="The study directory; --plan needs none.")] = None,
    recipes: Annotated[
        list[str] | None, Argument(metavar="[RECIPE]...", help="TOML files or names; beside --suite, further rows.")
    ] = None,
    kind: shared.Format = "table",
) -> None:
    """Train and compare several recipes; run it again to go on where it was."""
    suite = None if what.suite is None else load_suite(what.suite)
    rows, search = _searched(_rows(suite, recipes or [], what, options), what, out)
    runs = plan(rows, what.seeds or (suite.seeds if suite else 1))
    _tell_unknown(runs)
    if what.plan:
        tries = None if search is None else plan_search(runs, search, what.halving, out)
        chosen = Plan(suite, what.budget, tuple(runs), tries)
        shared.print_answer(chosen.content(), chosen.text(), kind)
        return
    if data is None or out is None:
        missing = "--data" if data is None else "--out"
        raise CallError(f"expected {missing}, got none; give it, or --plan to see what would be trained")
    _train(runs, search, reading.read(data, _stored([each.recipe for each in runs])), out, options, what, kind)


def _rows(suite: Suite | None, names: Sequence[str], what: StudyOptions, options: TrainOptions) -> tuple[SuiteRow, ...]:
    """The suite's rows within the budget, the recipes beside them, and in all of them what ``--set`` says."""
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
    return options.set_in(rows)


def _searched(
    rows: tuple[SuiteRow, ...], what: StudyOptions, out: Path | None
) -> tuple[tuple[SuiteRow, ...], Searched | None]:
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
    return grid_rows(rows[0], grid, max_tries=what.max_tries, known=known), Searched(base, tuple(grid))


def _tell_unknown(runs: Sequence[PlannedRow]) -> None:
    """Note which rows took a setting for all rows, where others do not know it."""
    rows = {run.row.name: run.row for run in runs}
    for setting in dict.fromkeys(setting for row in rows.values() for setting in row.unknown):
        taken = [name for name, row in rows.items() if setting not in row.unknown]
        unknown = [name for name, row in rows.items() if setting in row.unknown]
        shared.messages.print(f"{setting}: taken by {', '.join(taken)}; not known to {', '.join(unknown)}")


def _stored(recipes: Sequence[Recipe]) -> DataSettings:
    """How the recipes of a study want the pictures stored, all of them alike."""
    kinds = {(each.data.size, each.data.color, each.data.group): each.data for each in recipes}
    if len(kinds) > 1:
        raise CallError(
            "expected recipes with one data.size, data.color and data.group, since a study reads its data once, got"
            f" {len(kinds)}; give them to all, such as --set data.size=96, or make a study of each"
        )
    return next(iter(kinds.values()))


def _train(
    runs: Sequence[PlannedRow],
    search: Searched | None,
    samples: FaceSamples,
    out: Path,
    options: TrainOptions,
    what: StudyOptions,
    kind: str,
) -> None:
    command = shared.command_line()
    with telling_how_to_go_on(), shared.catching_signals() as stop_signal, showing_progress() as show:
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
        for run in finished:
            write_run_page(run, samples, pictures=not options.no_pictures)
            with locked(
                out, wait=True, stop_signal=stop_signal
            ):  # another process that shares the study writes the same page
                found = load_study(out)
                page = write_study_page(
                    out, found.reports, samples, command=command, pictures=not options.no_pictures,
                    left_out=found.left_out,
                )  # fmt: skip
    if training.is_first_process():
        content = json.loads((out / "study.json").read_text(encoding="utf-8"))
        chosen = None if search is None else read_search(out)
        text = comparison_text(comparison.compare(out, found.reports)) if chosen is None else _search_text(chosen)
        shared.print_answer(content, text, kind)
        shared.messages.print(str(page))


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
