"""``mien study --grid``: what it plans, trains, prints and refuses."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.fake_runs import fake_run, plain, read_page

from mien.cli import main
from mien.cli import study as command
from mien.data import FaceSamples
from mien.recipe import Recipe, load_recipe, to_toml
from mien.runs import Run
from mien.study.folder import gather, write_study
from mien.study.search import read_search

GRID = ("--grid", "optimizer.lr=0.03,0.003", "--grid", "augmentation.mixup=0,0.2")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["mien", "study", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None, bool]]:
    """What was asked to be trained until where, and tested; the runs are there at once, those with mixup the better."""
    asked: list[tuple[str, int | None, bool]] = []

    def train(
        recipes: Sequence[Recipe],
        *,
        samples: FaceSamples,
        out: Path,
        final: bool = False,
        until_epoch: int | None = None,
        **options: object,
    ) -> Iterator[Run]:
        for recipe in recipes:
            run = Run(out / f"{recipe.name}-s{recipe.seed}")
            asked.append((run.path.name, until_epoch, final))
            told = {"recipe": recipe.name, "seed": recipe.seed, "data_sha256": samples.content_sha256()}
            splits = ("validation", "private_test") if final else ("validation",)
            run.metrics_path.unlink(missing_ok=True)
            fake_run(run.path, samples, splits=splits, skill=1 + 10 * recipe.augmentation.mixup, **told)
            run.recipe_path.write_text(to_toml(recipe))
            if until_epoch is not None:
                run.report_path.unlink()
                continue
            write_study(out, gather(out, [run]), "mien study")
            yield run

    monkeypatch.setattr(command, "run_study", train)
    return asked


def test_terminal_page_and_json_say_the_same(
    trained: list[tuple[str, int | None, bool]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    arguments = ("smoke/compact_resnet", "--data", "synthetic:700", "--out", str(out), *GRID, "--final")
    assert call(monkeypatch, *arguments) == 0
    search = read_search(out)
    assert search is not None
    assert search.chosen is not None
    assert search.chosen.accuracy is not None
    assert len(search.tries) == 4
    assert [name for name, _, final in trained if final] == [f"{search.chosen.name}-s0"]
    assert load_recipe(out / "chosen.toml").augmentation.mixup == 0.2
    text = plain(capsys.readouterr().out)
    page = read_page(out / "index.html").text
    low, high = search.interval(search.chosen) or (0, 0)
    for told in (
        f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f} %",
        f"{100 * search.chosen.accuracy:.1f} %",
        f"Chosen: {search.chosen.name}",
    ):
        assert told in text
        assert told in page
    assert call(monkeypatch, *arguments, "--format", "json") == 0
    content = json.loads(capsys.readouterr().out)["search"]
    assert (content["number_of_tries"], content["chosen"]) == (4, search.chosen.name)
    assert content["tries"][0]["ci95"] == list(search.interval(search.tries[0]) or ())


def test_halving_asks_for_each_rung(
    trained: list[tuple[str, int | None, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("smoke/compact_resnet", "--data", "synthetic:210", "--out", str(tmp_path), *GRID, "--halving")
    assert call(monkeypatch, *arguments, "--set", "training.epochs=6", "--seeds", "2") == 0
    assert [until for _, until, _ in trained] == [3] * 8 + [None] * 4


def test_the_plan_counts_the_tries_and_needs_no_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        call(monkeypatch, "smoke/baseline_cnn", *GRID, "--halving", "--seeds", "2", "--plan", "--format", "json") == 0
    )
    content = json.loads(capsys.readouterr().out)
    assert len(content["rows"]) == 8
    assert content["search"] == {
        "tries": 4,
        "seeds": 2,
        "rungs": [{"tries": 4, "epochs": 6}, {"tries": 2, "epochs": 12}],
        "epochs": 2 * (4 * 6 + 2 * 6),
        "minutes": None,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("smoke/baseline_cnn", "--halving"), "--grid"),
        (("smoke/baseline_cnn", "smoke/attention_cnn", *GRID), "got 2"),
        (("--suite", "smoke", *GRID), "got 4"),
        (("smoke/baseline_cnn", *GRID, "--max-tries", "3"), "--max-tries 4"),
        (("smoke/baseline_cnn", "--grid", "optimizer.rl=1"), "optimizer.rl"),
        (("smoke/baseline_cnn", *GRID, "--set", "optimizer.lr=0.1"), "--set"),
    ],
)
def test_a_wrong_call_ends_with_2_and_trains_nothing(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *arguments, "--data", "synthetic:210", "--out", str(tmp_path / "out")) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
