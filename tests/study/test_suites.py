"""Suites: their files, whom a setting is for, budgets, and what is planned of them."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mien import training
from mien.cli import main
from mien.errors import CallError, MienError, RecipeError, RunError, UnknownNameError
from mien.recipe import Recipe, brought, load_recipe
from mien.study import load_suite
from mien.study.published import differences
from mien.study.suites import (
    KeptPartner,
    MissingSettings,
    SuiteRow,
    add_settings,
    kept_partners,
    missing_settings,
    plan,
    rows_of,
    within,
)

ROOT = Path(__file__).resolve().parents[2]
CNNS, RESNETS = ("baseline_cnn", "attention_cnn"), ("resnet50", "resnet50_cbam")

OWN_RECIPE = """
extends = "published/attention_cnn"
[model]
name = "compact_resnet"
"""

OWN_SUITE = """
about = "mine"
rows = ["sub/*", "published/resnet50"]
set = ["training.epochs=3", "one:model.options.dropout=0.2"]
seeds = 2

[budgets.short]
about = "short"
set = ["resnet50:training.epochs=1"]
hardware = "a machine"
source = "measured"
minutes = { one = 4, resnet50 = 2.5 }
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("two", "one", "_base"):
        (tmp_path / "sub" / f"{name}.toml").write_text(OWN_RECIPE)
    path = tmp_path / "mine.toml"
    path.write_text(OWN_SUITE)
    return path


def overrides(rows: tuple[SuiteRow, ...]) -> dict[str, tuple[str, ...]]:
    return {row.name: row.overrides for row in rows}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mien", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_suite_that_mien_brings_has_every_recipe_of_its_folder() -> None:
    assert list(brought("suites")) == ["ablation", "controlled", "published", "recipe", "smoke", "transfer"]
    for name in brought("suites"):
        recipes = {path for recipe, path in brought("recipes").items() if recipe.startswith(f"{name}/")}
        assert {row.recipe for row in load_suite(name).rows} == recipes
        assert load_suite(name).about


def test_suites_are_packaged_as_recipes_are() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {"recipes": "mien/recipes", "suites": "mien/suites"}


def test_a_suite_in_a_file_finds_its_recipes_beside_itself(own: Path) -> None:
    suite = load_suite(own)
    assert (suite.name, suite.about, suite.seeds) == ("mine", "mine", 2)
    assert [row.name for row in suite.rows] == ["one", "two", "resnet50"]
    assert overrides(suite.rows) == {
        "one": ("training.epochs=3", "model.options.dropout=0.2"),
        "two": ("training.epochs=3",),
        "resnet50": ("training.epochs=3",),
    }
    runs = plan(suite.rows, suite.seeds)
    assert [(run.recipe.name, run.seed) for run in runs][:3] == [("one", 0), ("one", 1), ("two", 0)]
    assert runs[0].recipe.model.options == {"dropout": 0.2}
    assert [(found.key, found.ours, found.published) for found in runs[-1].differences] == [("training.epochs", 3, 5)]
    short = within(suite, "short")
    assert {row.name: row.minutes for row in short} == {"one": 4, "two": None, "resnet50": 2.5}
    assert plan(short)[-1].recipe.training.epochs == 1
    assert next(row for row in add_settings(short, ["one:training.epochs=9"]) if row.name == "one").minutes is None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('about = "mine"', "", "about: expected a value, got none"),
        ("seeds = 2", "seeds = 0", "seeds: expected a number greater than or equal to 1, got 0"),
        ("seeds = 2", "seed = 2", "unknown key 'seed'. Did you mean 'seeds'?"),
        ("hardware =", "hardwear =", "unknown key 'budgets.short.hardwear'. Did you mean 'hardware'?"),
        ('"sub/*"', '"sup/*"', "got 'sup/*'"),
        ('"published/resnet50"', '"published/resnet5"', "Did you mean 'published/resnet50'?"),
        ('"published/resnet50"', '"sub/one.toml"', "two called one"),
        ("one:", "ones:", "mine.toml: set ones:model.options.dropout=0.2: unknown row 'ones'. Did you mean 'one'?"),
        ("training.epochs=3", "training.epoch=3", "mine.toml: set training.epoch=3: unknown key"),
        ("one = 4", "three = 4", "budgets.short.minutes: unknown row 'three'"),
        ("[budgets.short]", "[budgets.short", "not a TOML suite"),
    ],
)
def test_a_wrong_suite_is_told_with_file_and_place(own: Path, before: str, after: str, message: str) -> None:
    own.write_text(OWN_SUITE.replace(before, after, 1))
    with pytest.raises(MienError, match=re.escape(message)):
        load_suite(own)


def test_a_setting_for_all_rows_goes_to_those_whose_network_knows_it() -> None:
    rows = add_settings(load_suite("published").rows, ["model.batch_norm=false", "training.epochs=2"])
    assert overrides(rows)["baseline_cnn"] == ("model.options.batch_norm=false", "training.epochs=2")
    assert {row.name for row in rows if row.unknown == ("model.options.batch_norm=false",)} == {
        "attention_cnn",
        *RESNETS,
    }
    assert [run.recipe.training.epochs for run in plan(rows)] == [2] * 4
    weights = add_settings(rows, ["model.weights=there.safetensors"])
    assert {row.name for row in weights if "model.weights=there.safetensors" in row.unknown} == set(CNNS)
    for everyones in ("model.weights=scratch", "model.weights=runs/x/checkpoints/best.ckpt", "model.input_size=64"):
        assert not [row for row in add_settings(load_suite("published").rows, [everyones]) if row.unknown]


def test_a_setting_for_one_row_changes_that_row_alone() -> None:
    rows = add_settings(load_suite("published").rows, ["resnet50:model.weights=a:b.safetensors"])
    assert overrides(rows) == {**dict.fromkeys(CNNS + RESNETS, ()), "resnet50": ("model.weights=a:b.safetensors",)}
    replaced = add_settings(rows, ["baseline_cnn:model.options.depths=[1]", "baseline_cnn:model.name=compact_resnet"])
    assert plan(replaced)[0].recipe.model.options == {"depths": (1,)}


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ("baselin_cnn:training.epochs=1", UnknownNameError, "unknown row 'baselin_cnn'. Did you mean 'baseline_cnn'?"),
        ("x:training.epochs=1", UnknownNameError, "Known: attention_cnn, baseline_cnn, resnet50, resnet50_cbam"),
        ("model.options.batch_nrm=1", RecipeError, "'batch_nrm'. Did you mean 'batch_norm'?"),
        ("resnet50:model.batch_norm=false", RecipeError, "unknown resnet50 option 'batch_norm'. Known: attention"),
        ("attention_cnn:model.weights=imagenet", RecipeError, "unknown attention_cnn option 'weights'"),
        ("training.epoch=1", RecipeError, "unknown key 'training.epoch'. Did you mean 'epochs'?"),
        ("training.epochs=few", RecipeError, "training.epochs: expected a valid integer, got 'few'"),
        ("training.epochs.more=1", RecipeError, "expected a table as epochs"),
        ("training.epochs", RecipeError, "expected key=value, such as training.epochs=3"),
        ("training.weights=ema", RecipeError, "needs ema_decay"),
    ],
)
def test_a_wrong_setting_is_told_by_itself_and_not_by_a_file(
    setting: str, error: type[MienError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)) as told:
        add_settings(load_suite("published").rows, [setting])
    assert str(told.value).startswith(f"--set {setting}: ")
    assert ".toml" not in str(told.value)


def test_a_mistake_of_the_file_names_the_file_whatever_is_set(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[model]\nname = "baseline_cnn"\n[training]\nepoch = 3\n')
    with pytest.raises(RecipeError, match=r"own\.toml: unknown key 'training\.epoch'"):
        load_recipe(path, ["optimizer.lr=0.1"])


def test_budgets_tell_their_time_and_what_they_change() -> None:
    suite = load_suite("published")
    assert list(suite.budgets) == ["minutes", "laptop", "gpu", "full"]
    for name, budget in suite.budgets.items():
        assert budget.minutes.keys() == {row.name for row in suite.rows}, name
    changed = {
        name: {run.recipe.name: {found.key for found in run.differences} for run in plan(within(suite, name))}
        for name in suite.budgets
    }
    assert changed["full"] == {**{name: set() for name in CNNS + RESNETS}, "baseline_cnn": {"model.batch_norm"}}
    assert changed["gpu"] == {**changed["full"], **{name: {"model.weights"} for name in RESNETS}}
    assert changed["laptop"]["baseline_cnn"] == changed["laptop"]["attention_cnn"] == {"model.input_size"}
    assert changed["laptop"]["resnet50_cbam"] == {"model.input_size", "model.weights", "training.epochs"}
    assert sum(suite.budgets["laptop"].minutes.values()) <= 70
    assert sum(suite.budgets["minutes"].minutes.values()) <= 6
    for name in ("minutes", "laptop", "gpu"):  # nothing to fetch
        assert {run.recipe.model.weights for run in plan(within(suite, name))} == {"scratch"}


def test_what_a_budget_chose_for_its_own_length_is_told_where_the_length_is_changed() -> None:
    before = within(load_suite("published"), "minutes")
    partners = kept_partners(before, add_settings(before, ["resnet50:training.epochs=9"]))
    kept, original = "schedule.restart_epochs=1", "schedule.restart_epochs=5"
    assert partners == [KeptPartner(("resnet50",), "training.epochs=9", kept, original)]
    assert kept_partners(before, add_settings(before, ["training.epochs=9", original])) == []
    rows = load_suite("published").rows
    assert kept_partners(rows, add_settings(rows, ["training.epochs=9"])) == []  # the recipes' own stay on purpose


def test_a_recipe_beside_a_budget_becomes_comparable_with_the_row_that_it_extends(tmp_path: Path) -> None:
    path = tmp_path / "gated.toml"
    path.write_text('extends = "published/attention_cnn"\nname = "gated"\n[model]\nattention = "cbam"\n')
    suite = within(load_suite("published"), "minutes")
    (row,) = rows_of([path])
    found = missing_settings(row, suite)
    settings = ("model.input_size=48", "training.epochs=1", "schedule.restart_epochs=1")
    assert found == MissingSettings("attention_cnn", settings)
    (added,) = add_settings([row], found.settings)
    assert missing_settings(added, suite) == MissingSettings("attention_cnn", ())
    gated, attention = plan([added])[0].recipe, plan(suite)[2].recipe
    assert {found.key for found in differences(gated, attention)} == {"model.attention"}


def test_the_options_for_a_recipe_beside_a_budget_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gated.toml"
    path.write_text('extends = "published/attention_cnn"\nname = "gated"\n[model]\nattention = "cbam"\n')
    arguments = ["study", "--suite", "published", "--budget", "minutes", path]
    assert call(monkeypatch, *arguments) == 2  # no --data
    (options,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("--set")]
    assert call(monkeypatch, *arguments, *shlex.split(options), "--plan", "--format", "json") == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out)["rows"] if row["recipe"] == "gated"]
    assert [found["there"] for found in row["differences"]] == [128, 25, 5]  # size, epochs, restarts of its own file
    assert call(monkeypatch, *arguments, *shlex.split(options)) == 2
    assert "--set gated" not in capsys.readouterr().err


def test_a_setting_that_changes_nothing_keeps_the_time_and_a_key_is_shown_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = within(load_suite("published"), "minutes")
    kept = add_settings(before, ["data.protocol=published", "training.epochs=1"])
    assert [row.minutes for row in kept] == [row.minutes for row in before]
    changed = add_settings(before, ["data.protocol=contest", "resnet50:training.epochs=1"])
    assert [row.minutes for row in changed] == [None] * 4
    assert [each for each in before[1].overrides if "input_size" in each] == [
        "model.input_size=48", "model.input_size=32",
    ]  # fmt: skip
    assert [each for each in before[1].settings if "input_size" in each] == ["model.input_size=32"]
    arguments = ["study", "--suite", "published", "--budget", "minutes", "--plan"]
    assert call(monkeypatch, *arguments, "--protocol", "published", "--seeds", 3) == 0
    text = capsys.readouterr().out
    assert "about 15 minutes for 3 seeds, estimated on" in text
    assert "model.input_size=48, model.input_size=32" not in re.sub(r"\s+", " ", text)
    assert call(monkeypatch, *arguments, "--protocol", "contest") == 0
    assert "estimated on" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["study", "train", "evaluate"])
def test_help_needs_no_torch(command: str) -> None:
    code = f"import sys; sys.argv = ['mien', {command!r}, '--help']; from mien.cli import main\n"
    code += "try: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"
    assert "--help" in done.stdout


def test_a_budget_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(UnknownNameError, match=r"'lap'\. Did you mean 'laptop'\? Known: full, gpu, laptop, minutes"):
        within(load_suite("published"), "lap")
    with pytest.raises(CallError, match=r"got smoke, which has none; .* published \(minutes, laptop, gpu, full\)"):
        within(load_suite("smoke"), "laptop")


def test_two_rows_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.toml"
    path.write_text('extends = "published/resnet50"\n')
    with pytest.raises(CallError, match=r"two called resnet50: .*published/resnet50\.toml and .*resnet50\.toml"):
        rows_of([brought("recipes")["published/resnet50"], path])
    rows = rows_of([path, brought("recipes")["published/attention_cnn"]])
    with pytest.raises(CallError, match="two of the same"):
        plan(add_settings(rows, ["name=x"]))
    with pytest.raises(CallError, match="--seeds"):
        plan(add_settings(rows, ["resnet50:seed=3"]))


def test_a_plan_reads_no_data_and_writes_nothing(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(own.parent)
    before = sorted(own.parent.rglob("*"))
    mine = own.parent / "sub" / "one.toml"
    arguments = ["study", "--suite", "published", mine, "--budget", "laptop", "--plan", "--seeds", 2]
    changes = ["--set", "model.batch_norm=true", "--set", "one:training.epochs=4"]
    assert call(monkeypatch, *arguments, *changes, "--data", "fer2013:/nowhere", "--format", "json") == 0
    shown = capsys.readouterr()
    taken = (
        "model.options.batch_norm=true: taken by baseline_cnn; not known to resnet50, attention_cnn, resnet50_cbam, one"
    )
    assert shown.err.splitlines() == [taken]
    content = json.loads(shown.out)
    assert (content["suite"], content["budget"]["name"], content["minutes"]) == ("published", "laptop", None)
    assert (content["untimed"], content["beside"]) == (["baseline_cnn", "one"], ["one"])  # baseline_cnn was changed
    assert content["known_minutes"] == 2 * (26 + 10 + 21)
    rows = {row["recipe"]: row for row in content["rows"]}
    assert len(content["rows"]) == 10
    assert rows["one"]["overrides"] == ["training.epochs=4"]
    assert rows["one"]["differences"] == [{"key": "training.epochs", "here": 4, "there": 25}]
    resnet = rows["resnet50_cbam"]
    assert (resnet["seed"], resnet["input_size"], resnet["weights"], resnet["epochs"]) == (1, 64, "scratch", 5)
    assert (resnet["parameters"], resnet["minutes"]) == (24_048_938, 21)
    assert call(monkeypatch, *arguments[:3], "--budget", "laptop", "--plan") == 0
    text = capsys.readouterr().out
    assert "model.batch_norm" not in text
    assert "about 70 minutes, measured on two cores of an AMD EPYC" in text
    assert "What differs from the published configuration" in text
    assert call(monkeypatch, *arguments) == 0
    text = capsys.readouterr().out
    assert "about 140 minutes for 2 seeds, measured on two cores" in text
    assert "of one the time is not known" in text
    assert "one stands beside the suite, so the budget laptop is not for it: it has 128 px" in text
    assert "--set one:model.input_size=48" in text
    assert sorted(own.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "publishd"], "Known: ablation, controlled, published, recipe, smoke, transfer"),
        (["--suite", "nowhere.toml"], "no suite at nowhere.toml; mien brings: ablation"),
        ([], "give recipes, or --suite ablation, controlled, published, recipe, smoke, transfer"),
        (["smoke/baseline_cnn", "--budget", "laptop"], "--suite published"),
        (["--suite", "smoke"], "expected --data"),
        (["--suite", "smoke", "--data", "synthetic:210"], "expected --out"),
        (["--suite", "smoke", "--protocol", "contst"], "unknown protocol 'contst'. Did you mean 'contest'"),
    ],
)
def test_wrong_calls_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert call(monkeypatch, "study", *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err


def test_train_takes_a_protocol_and_settings_of_its_row(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[Recipe] = []

    def fit(recipe: Recipe, *arguments: object, **options: object) -> None:
        begun.append(recipe)
        raise RunError("far enough")

    monkeypatch.setattr(training, "fit", fit)
    settings = ["--protocol", "contest", "--set", "one:seed=4", "--set", "training.epochs=2"]
    recipe = own.parent / "sub" / "one.toml"
    assert call(monkeypatch, "train", recipe, "--data", "synthetic:70", "--out", own.parent / "out", *settings) == 1
    assert "far enough" in capsys.readouterr().err
    assert (begun[0].data.protocol, begun[0].seed, begun[0].training.epochs) == ("contest", 4, 2)
    assert load_recipe(recipe).data.protocol == "published"


def test_the_help_of_study_names_every_suite(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "study", "--help") == 0
    shown = capsys.readouterr().out
    for name in (*brought("suites"), *load_suite("published").budgets):
        assert name in shown
