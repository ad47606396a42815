"""A search chooses on validation, counts every try, and looks at test images for the chosen one alone."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.conftest import small_recipe
from tests.fake_runs import fake_run, read_page

from mien.data import FaceSamples
from mien.data.synthetic import read_synthetic
from mien.errors import CallError, DataError, Interrupted, RunExistsError
from mien.evaluation.metrics import wilson_interval
from mien.recipe import load_recipe, to_toml
from mien.report.search_section import search_plot, search_rows, search_sentences
from mien.report.study_page import write_study_page
from mien.runs import Run
from mien.study import run_study
from mien.study.comparison import compare
from mien.study.grid import grid_rows, parse_grid
from mien.study.halving import SearchSpace, run_search
from mien.study.search import Search, find_tries, known_names, read_search, summarize
from mien.study.suites import SuiteRow, plan
from mien.training import fit

KEYS = ("optimizer.lr", "augmentation.mixup")


def tried(folder: Path, samples: FaceSamples, lr: float, mixup: float, skill: float, seed: int = 0) -> Run:
    """A run of a try, trained to the end."""
    name = f"small-lr_{lr:g}-mixup_{mixup:g}"
    recipe = small_recipe(name=name, seed=seed, optimizer={"lr": lr}, augmentation={"mixup": mixup})
    run = fake_run(folder / f"{name}-s{seed}", samples, recipe=name, seed=seed, skill=skill)
    run.recipe_path.write_text(to_toml(recipe))
    return run


def stopped(folder: Path, samples: FaceSamples, lr: float, mixup: float) -> Run:
    """A run of a try that was stopped after three epochs, of which the second was the best."""
    run = tried(folder, samples, lr, mixup, 1.0)
    run.report_path.unlink()
    return run


def record(folder: Path, search: Search) -> None:
    rows = [report.content() for each in search.tries for report in each.reports]
    (folder / "study.json").write_text(json.dumps({"rows": rows, "search": search.content()}))


@pytest.fixture(scope="module")
def many() -> FaceSamples:
    return read_synthetic(2800)


@pytest.fixture
def searched(tmp_path: Path, many: FaceSamples) -> Search:
    """Four tries: two that answer alike, a much worse one, and one that was stopped."""
    for lr, mixup, skill in ((0.1, 0.0, 3.0), (0.1, 0.2, 2.9), (0.01, 0.0, 0.5)):
        tried(tmp_path, many, lr, mixup, skill)
    stopped(tmp_path, many, 0.01, 0.2)
    search = summarize(tmp_path, "small", KEYS, 1)
    record(tmp_path, search)
    return search


def test_all_tries_count_and_the_best_of_those_trained_to_the_end_is_chosen(searched: Search) -> None:
    assert [searched.values(each) for each in searched.tries] == [(0.01, 0.0), (0.01, 0.2), (0.1, 0.0), (0.1, 0.2)]
    assert [each.is_finished for each in searched.tries] == [True, False, True, True]
    chosen = searched.chosen
    assert chosen is not None
    assert chosen.accuracy == max(each.accuracy or 0 for each in searched.candidates)
    content = searched.content()
    assert (content["number_of_tries"], content["chosen"], content["n"]) == (4, chosen.name, 280)
    found = searched.tries[1]
    assert (found.epochs, found.accuracy, found.accuracy_after(1)) == (3, 0.6, 0.3)  # of fake_run's curve
    assert searched.seconds(found) == 0  # fake runs do not tell their speed


def test_a_finished_try_without_its_epochs_counts_with_its_report(tmp_path: Path, drawn: FaceSamples) -> None:
    run = tried(tmp_path, drawn, 0.1, 0.0, 3.0)
    run.metrics_path.unlink()
    (found,) = find_tries(tmp_path, "small")
    result = run.load_report().result("validation")
    assert result is not None
    assert found.accuracy_after(1) == found.accuracy == result.accuracy.value


def test_the_interval_of_the_chosen_one_is_that_of_all_four(searched: Search, tmp_path: Path) -> None:
    chosen = searched.chosen
    assert chosen is not None
    assert chosen.accuracy is not None
    interval = searched.interval(chosen)
    assert interval == pytest.approx(wilson_interval(280 * chosen.accuracy, 280, 1 - 0.05 / 4))
    rows = {
        row.report.recipe: row
        for row in compare(tmp_path, [found for each in searched.tries for found in each.reports])
    }
    assert rows[chosen.name].interval == interval  # in table, chart and terminal
    assert searched.epoch_chosen  # the recipes keep the best epoch
    assert searched.content()["intervals_allow_for_choice_of_epoch"] is False
    assert any("epoch was chosen" in line for line in search_sentences(searched))
    alone = tmp_path / "alone"
    tried(alone, read_synthetic(280), 0.1, 0.0, 2.0)
    single = summarize(alone, "small", KEYS, 1)
    (only,) = single.tries
    assert only.accuracy is not None
    assert single.interval(only) == pytest.approx(wilson_interval(round(28 * only.accuracy), 28))


def test_tries_that_cannot_be_told_from_the_chosen_one_are_named(searched: Search) -> None:
    names = {
        f"{value:g}-{mixup:g}": f"small-lr_{value:g}-mixup_{mixup:g}" for value in (0.1, 0.01) for mixup in (0, 0.2)
    }
    assert searched.chosen is not None
    other = ({names["0.1-0"], names["0.1-0.2"]} - {searched.chosen.name}).pop()
    assert searched.level == {other: True, names["0.01-0"]: False}
    verdicts = {row.tried.name: (row.is_chosen, row.level) for row in search_rows(searched)}
    assert verdicts[names["0.01-0.2"]] == (False, None)
    assert other in " ".join(search_sentences(searched))


def test_seeds_are_averaged_and_a_try_with_fewer_is_not_chosen(tmp_path: Path, many: FaceSamples) -> None:
    for seed, skill in enumerate((3.5, 0.0)):
        tried(tmp_path, many, 0.1, 0.0, skill, seed)
    for seed in range(2):
        tried(tmp_path, many, 0.01, 0.0, 2.0, seed)
    tried(tmp_path, many, 0.02, 0.0, 4.0)
    search = summarize(tmp_path, "small", KEYS, 2)
    assert [each.name for each in search.candidates] == ["small-lr_0.01-mixup_0", "small-lr_0.1-mixup_0"]
    assert search.chosen is not None
    assert search.chosen.name == "small-lr_0.01-mixup_0"
    assert (len(search.tries), search.trainings) == (3, 5)
    single = summarize(tmp_path, "small", KEYS, 1).chosen
    assert single is not None
    assert single.name == "small-lr_0.02-mixup_0"


def test_the_page_shows_every_try_and_the_terminal_says_the_same(
    searched: Search, tmp_path: Path, many: FaceSamples
) -> None:
    for each in searched.candidates:
        (each.runs[0].path / "report.html").write_text("")
    reports = [found for each in searched.tries for found in each.reports]
    page = read_page(write_study_page(tmp_path, reports, many))
    rows = {
        tuple(row[:2]): row
        for row in page.rows
        if row[:2] in (["0.01", "0"], ["0.01", "0.2"], ["0.1", "0"], ["0.1", "0.2"])
    }
    assert len(rows) == 4
    assert rows["0.01", "0.2"][3:5] == ["3 of 2", "60.0 %"]
    chosen = searched.chosen
    assert chosen is not None
    assert chosen.accuracy is not None
    interval = "{:.1f}\N{EN DASH}{:.1f} %".format(*(100 * bound for bound in searched.interval(chosen) or ()))
    assert interval in rows[tuple(f"{value:g}" for value in searched.values(chosen))]
    lead = search_sentences(searched)[0].replace("\N{NO-BREAK SPACE}", " ")
    assert interval in lead
    assert lead in page.text
    assert f"{chosen.runs[0].path.name}/report.html" in page.values("href")
    assert sum("augmentation.mixup 0.2" in plot for plot in page.plots) == 1
    # Of tries that are not chosen, their own pages show faces and curves.
    assert sum("Learning curves" in plot for plot in page.plots) == 1


def test_two_varied_keys_are_drawn_and_three_are_not(searched: Search, tmp_path: Path, many: FaceSamples) -> None:
    (plot,) = search_plot(searched)
    assert plot.numbers == {"key": "optimizer.lr", "other": "augmentation.mixup", "n": 280}
    run = tried(tmp_path, many, 0.5, 0.0, 1.0)
    recipe = load_recipe(run.recipe_path)
    run.recipe_path.write_text(
        to_toml(recipe.model_copy(update={"augmentation": recipe.augmentation.model_copy(update={"flip": 0.1})}))
    )
    assert search_plot(summarize(tmp_path, "small", KEYS, 1)) == []


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(to_toml(small_recipe(training={"epochs": 2, "batch_size": 56, "weights": "last"})))
    return path


def search_in(
    out: Path,
    base: Path,
    samples: FaceSamples,
    *options: str,
    halving: bool = False,
    final: bool = False,
    **more: object,
) -> Iterator[Run]:
    grid = parse_grid(options)
    rows = grid_rows(SuiteRow("small", base), grid, known=known_names(find_tries(out, "small")))
    recipes = [each.recipe for each in plan(rows)]
    train = partial(run_study, samples=samples, out=out, accelerator="cpu", **more)  # type: ignore[arg-type]
    return run_search(
        recipes, train, samples, out, search=SearchSpace("small", tuple(grid)), halving=halving, final=final
    )


GRID = ("optimizer.lr=0.00001,0.003", "augmentation.mixup=0,0.2")


def test_halving_stops_the_worse_half_and_tests_the_chosen_one_alone(
    tmp_path: Path, base: Path, drawn: FaceSamples
) -> None:
    out = tmp_path / "out"
    runs = list(search_in(out, base, drawn, *GRID, halving=True, final=True))
    search = read_search(out)
    assert search is not None
    assert search.chosen is not None
    after_one = {each.name: each.accuracy_after(1) or 0.0 for each in search.tries}
    went_on = [each.name for each in search.tries if each.is_finished]
    assert len(after_one) == 4
    assert len(went_on) == 2
    assert min(after_one[name] for name in went_on) >= max(after_one[each.name] for each in search.stopped)
    assert [each.epochs for each in search.stopped] == [1, 1]
    assert [run.path.name for run in runs] == [*(f"{name}-s0" for name in went_on), f"{search.chosen.name}-s0"]
    assert {each.name: each.looks for each in search.tries} == {
        each.name: int(each == search.chosen) for each in search.tries
    }
    assert search.chosen.test is not None
    assert search.chosen.test[0] == "private_test"  # under contest, validation is a part of published_test
    content = json.loads((out / "study.json").read_text())
    assert content["search"]["number_of_tries"] == 4
    assert [each["finished"] for each in content["search"]["tries"]].count(True) == 2
    chosen = load_recipe(out / "chosen.toml")
    assert chosen == load_recipe(search.chosen.runs[0].recipe_path)
    again = fit(chosen, drawn, tmp_path / "again", accelerator="cpu")
    weights = [torch.load(run.best_checkpoint, weights_only=True)["weights"] for run in (again, search.chosen.runs[0])]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])  # continued, not repeated


def test_a_second_search_counts_the_first_and_says_that_the_test_was_looked_at(
    tmp_path: Path, base: Path, drawn: FaceSamples
) -> None:
    out = tmp_path / "out"
    list(search_in(out, base, drawn, "optimizer.lr=0.00001", final=True))
    first = read_search(out)
    assert first is not None
    assert (len(first.tries), first.looks_before) == (1, 0)
    runs = list(search_in(out, base, drawn, "optimizer.lr=0.00001,0.003"))
    second = read_search(out)
    assert second is not None
    assert second.chosen is not None
    assert (len(second.tries), second.looks_before) == (2, 1)
    assert [run.path.name for run in runs] == ["small-lr_1e-05-s0", "small-lr_0.003-s0"]
    assert "1 look" in search_sentences(second)[-1].replace("\N{NO-BREAK SPACE}", " ")
    list(search_in(out, base, drawn, "optimizer.lr=0.00001,0.003"))  # nothing to train: nothing changes
    assert read_search(out) == second


def test_an_interrupted_search_goes_on_and_decides_the_same(tmp_path: Path, base: Path, drawn: FaceSamples) -> None:
    cut = tmp_path / "cut"

    def stop_signal() -> int | None:
        return 15 if len(list(cut.glob("*-s0"))) == 3 else None  # in the third of four tries

    with pytest.raises(Interrupted):
        list(search_in(cut, base, drawn, *GRID, halving=True, stop_signal=stop_signal))
    assert len(find_tries(tmp_path / "cut", "small")) == 3
    for name in ("cut", "whole"):
        list(search_in(tmp_path / name, base, drawn, *GRID, halving=True))
    found = [read_search(tmp_path / name) for name in ("cut", "whole")]
    shown = [
        [(each.name, each.epochs, each.accuracy) for each in search.tries] for search in found if search is not None
    ]
    assert len(shown) == 2
    assert shown[0] == shown[1]
    # Without --halving a later call trains the stopped ones to the end, under their names.
    list(search_in(tmp_path / "cut", base, drawn, *GRID))
    assert [each.epochs for each in find_tries(tmp_path / "cut", "small")] == [2] * 4


def test_a_try_that_diverges_counts_and_the_others_go_on(tmp_path: Path, base: Path, drawn: FaceSamples) -> None:
    out, said = tmp_path / "out", list[str]()
    grid = parse_grid(["optimizer.lr=1e38,0.003"])
    recipes = [each.recipe for each in plan(grid_rows(SuiteRow("small", base), grid))]
    train = partial(run_study, samples=drawn, out=out, accelerator="cpu")
    options = {"search": SearchSpace("small", tuple(grid)), "halving": True, "say": said.append}
    runs = list(run_search(recipes, train, drawn, out, **options))  # type: ignore[arg-type]
    search = read_search(out)
    assert search is not None
    assert search.chosen is not None
    assert [run.path.name for run in runs] == ["small-lr_0.003-s0"]
    assert [(search.values(each), each.epochs, each.is_finished) for each in search.tries] == [
        ((0.003,), 2, True),
        ((1e38,), 0, False),
    ]
    assert any(search.tries[1].name in text and "finite" in text for text in said)


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    tmp_path: Path, base: Path, drawn: FaceSamples
) -> None:
    out = tmp_path / "out"
    with pytest.raises(CallError, match=r"tries of equal length, got \[1, 2\] epochs"):
        list(search_in(out, base, drawn, "training.epochs=1,2", halving=True))
    with pytest.raises(CallError, match=r"got training.minutes"):
        list(search_in(out, base, drawn, "training.minutes=1,2", halving=True))
    only = drawn.usages == 0
    training = FaceSamples(
        drawn.images[only], drawn.labels[only], drawn.rows[only], drawn.usages[only], "drawn", drawn.row_source
    )
    with pytest.raises(DataError, match="published_test"):
        list(search_in(out, base, training, "optimizer.lr=0.1", final=True))
    assert not out.exists()
    list(search_in(out, base, drawn, "optimizer.lr=0.00001"))
    with pytest.raises(RunExistsError, match=r"same validation images, got one of other data"):
        list(search_in(out, base, read_synthetic(280), "optimizer.lr=0.1"))
    base.write_text(to_toml(small_recipe(data={"protocol": "published"})))
    with pytest.raises(RunExistsError, match=r"same validation images, got one of other splits"):
        list(search_in(out, base, drawn, "optimizer.lr=0.1"))
