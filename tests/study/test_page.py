"""The page of a study: what it says about its rows, about the published ones, and what it does not claim."""

import dataclasses
import json
import re
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fake_runs import Page, fake_robustness, fake_run, note_look, plain, read_page

from mien.data import FaceSamples
from mien.errors import RunError
from mien.evaluation.metrics import wilson_interval
from mien.evaluation.robustness import save_robustness
from mien.recipe import find_recipe, load_recipe, to_toml
from mien.report.run_page import write_run_page
from mien.report.study_conclusions import answers, conclude, conclusion_sentences, noise
from mien.report.study_page import write_study_page
from mien.runs import Report, Run, SplitResult, Subset
from mien.runs.report import Estimate, common_split
from mien.study.comparison import ComparedRow, compare, spread
from mien.study.folder import gather, write_study
from mien.study.published import PUBLISHED, Deviation, deviations
from tools.published import study_reports

DASH = "\N{EN DASH}"
RESULTS = Path(__file__).resolve().parents[2] / "results"
TESTED = ("validation", "published_test")
AS_PUBLISHED: dict[str, Any] = {
    "recipe": "attention_cnn", "protocol": "published", "input_size": 128, "epochs": 25, "data": "fer2013",
}  # fmt: skip
PUBLISHED_RATES = ("58.9 %", "43.5 %", "45.4 %", "67.4 %", "66.2 %")


def reports_of(*runs: Run) -> list[Report]:
    return [run.load_report() for run in runs]


def write_recipe(run: Run, *overrides: str) -> None:
    recipe = load_recipe(find_recipe(f"published/{run.load_report().recipe}"), overrides)
    run.recipe_path.write_text(to_toml(recipe))


@pytest.fixture(scope="module")
def replication(tmp_path_factory: pytest.TempPathFactory, drawn: FaceSamples) -> tuple[Path, list[Report]]:
    """A study on (what is called) FER-2013 with test figures: three seeds as published, and another row."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    runs = [
        fake_run(folder / f"attention_cnn-s{seed}", drawn, splits=TESTED, **{**AS_PUBLISHED, "seed": seed})
        for seed in (2, 0, 1)
    ]
    other = {**AS_PUBLISHED, "recipe": "resnet50_cbam", "model": "resnet50_cbam", "initialization": "file"}
    runs.append(fake_run(folder / "resnet50_cbam-s0", drawn, splits=TESTED, skill=8, **{**other, "input_size": 48}))
    for run in runs:
        write_recipe(run)
        note_look(run, "published_test")
        (run.path / "report.html").write_text("")  # stands for the run's own page
    write_study_page(folder, reports_of(*runs), drawn, command="mien study --final")
    return folder, reports_of(*runs)


@pytest.fixture(scope="module")
def page(replication: tuple[Path, list[Report]]) -> Page:
    return read_page(replication[0] / "index.html")


def row_of(page: Page, title: str) -> list[str]:
    return next(row for row in page.rows if row and row[0] == title)


def test_rows_of_different_machines_are_told_apart(tmp_path: Path, drawn: FaceSamples) -> None:
    here = fake_run(tmp_path / "small-s0", drawn, recipe="small", seed=0)
    there = fake_run(tmp_path / "large-s0", drawn, recipe="large", seed=0, device="a GPU")
    write_study_page(tmp_path, reports_of(here), drawn)
    assert "in training, on a computer." in " ".join(read_page(tmp_path / "index.html").text.split())
    write_study_page(tmp_path, reports_of(here, there), drawn)
    text = " ".join(read_page(tmp_path / "index.html").text.split())
    assert "in training, on a computer (small); a GPU, a computer (large)." in text
    write_study_page(tmp_path, reports_of(there), drawn)
    assert "in training, on a GPU, a computer." in " ".join(read_page(tmp_path / "index.html").text.split())


def test_unseen_has_a_definition_where_only_a_later_row_knows_it(tmp_path: Path, drawn: FaceSamples) -> None:
    first, second = (
        fake_run(tmp_path / f"{name}-s0", drawn, splits=TESTED, recipe=name, seed=0, **more)
        for name, more in (("brought", {}), ("pretrained", {"initialization": "imagenet"}))
    )
    report = first.load_report()
    known = tuple(each for each in report.results if each.subset is not Subset.UNSEEN)
    dataclasses.replace(report, results=known).save(first.report_path)
    write_study_page(tmp_path, reports_of(first, second), drawn)
    page = read_page(tmp_path / "index.html")
    assert DASH in row_of(page, "brought")
    assert "identical to none that the network learnt from; ImageNet" in " ".join(page.text.split())


def test_the_table_gives_mean_and_deviation_of_the_seeds(replication: tuple[Path, list[Report]], page: Page) -> None:
    folder, reports = replication
    accuracy, unseen = (
        spread([report.result("published_test", subset).accuracy.value for report in reports[:3]])
        for subset in (Subset.ALL, Subset.UNSEEN)
    )
    low, high = wilson_interval(42 * accuracy.mean, 42)
    assert accuracy.deviation
    assert unseen.deviation
    assert row_of(page, "CNN with spatial attention")[:5] == [
        "CNN with spatial attention",
        "45.4 %",
        f"{100 * accuracy.mean:.1f} % ± {100 * accuracy.deviation:.1f} n = 3",
        f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f} %",
        f"{100 * unseen.mean:.1f} % ± {100 * unseen.deviation:.1f}",
    ]
    # Every seed by itself, in order, each with a link to its own page.
    for seed in range(3):
        found = json.loads((folder / f"attention_cnn-s{seed}" / "report.json").read_text())["results"]["published_test"]
        assert [str(seed), f"{100 * found['accuracy']:.1f} %"] in [row[:2] for row in page.rows]
        assert f"attention_cnn-s{seed}/report.html" in page.values("href")
    assert "(4 lines)" in page.text  # of looks.jsonl
    assert re.search(r"\b2 of the 42 test .* \(4.8 %\)", page.text)  # copies in Training
    assert "mien study --final" in page.text
    assert len(page.faces) > 10


def test_published_figures_are_compared_only_where_the_configuration_is_the_same(
    replication: tuple[Path, list[Report]], page: Page
) -> None:
    alike, other = compare(*replication)
    gap = alike.accuracy.mean - 0.454
    assert not alike.deviations
    assert (
        f"CNN with spatial attention {100 * alike.accuracy.mean:.1f} %, {100 * abs(gap):.1f} points"
        f" {'above' if gap > 0 else 'below'} the published 45.4 %"
    ) in page.text
    assert f"ResNet-50 with CBAM {100 * other.accuracy.mean:.1f} %," not in page.text
    assert [found.key for found in other.deviations] == ["model.input_size", "model.weights", "training.epochs"]
    remark = [
        "input 48 px (published 224)",
        "weights from a file (published ImageNet weights)",
        "25 epochs (published 20)",
    ]
    assert ", ".join(remark) in page.text  # in the table
    settings = [
        ["model.input_size", "48", "224"],
        ["model.weights", "file", "imagenet"],
        ["training.epochs", "25", "20"],
    ]
    (head,) = [number for number, row in enumerate(page.rows) if row == ["model", "setting", "here", "published"]]
    assert [row[-3:] for row in page.rows[head + 1 : head + 4]] == settings
    assert page.rows[head + 1][0] == "ResNet-50 with CBAM"
    assert row_of(page, "ResNet-50 with CBAM")[11] == "file"
    assert "66.2 % after 5 epochs" in page.text
    chart = (replication[0] / "figures" / "comparison.svg").read_text()
    assert "published</text>" in chart
    assert "published, other configuration</text>" in chart


def test_study_json_tells_what_differs_from_the_published_configuration(
    replication: tuple[Path, list[Report]], tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(replication[0], folder)
    write_study(folder, gather(folder, []), "mien study")
    content = json.loads((folder / "study.json").read_text())
    assert content["deviations"]["attention_cnn-s1"] == []
    assert content["deviations"]["resnet50_cbam-s0"] == [
        {"key": "model.input_size", "ours": 48, "published": 224},
        {"key": "model.weights", "ours": "file", "published": "imagenet"},
        {"key": "training.epochs", "ours": 25, "published": 20},
    ]


def test_equal_studies_give_equal_bytes_and_no_face_where_none_is_wanted(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "small-s0", drawn)
    page = write_study_page(tmp_path, reports_of(run), drawn)
    written = page.read_bytes()
    assert b"data:image/png" in written
    assert write_study_page(tmp_path, reports_of(run), drawn).read_bytes() == written
    assert write_study_page(tmp_path, reports_of(run), drawn, pictures=False) == page
    assert b"data:image/png" not in page.read_bytes()
    assert ["row", "label", "prediction", "confidence"] in read_page(page).rows


def test_validation_alone_claims_no_replication(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "attention_cnn-s0", drawn, stored=False, **AS_PUBLISHED)
    page = read_page(write_study_page(tmp_path, reports_of(run)))
    assert "Validation only." in page.text
    assert "points above the published" not in page.text
    assert "points below the published" not in page.text
    assert "unseen" not in page.text
    assert row_of(page, "CNN with spatial attention")[1] == "45.4 %"
    chart = (tmp_path / "figures" / "comparison.svg").read_text()
    assert "published, other configuration</text>" in chart
    assert "published</text>" not in chart


def test_rows_without_test_figures_bring_all_back_to_validation(tmp_path: Path, drawn: FaceSamples) -> None:
    tested = fake_run(tmp_path / "attention_cnn-s0", drawn, splits=TESTED, stored=False, **AS_PUBLISHED)
    other = fake_run(tmp_path / "baseline_cnn-s0", drawn, stored=False, **{**AS_PUBLISHED, "recipe": "baseline_cnn"})
    page = read_page(write_study_page(tmp_path, reports_of(tested, other)))
    assert "Validation only." in page.text
    assert [row.split for row in compare(tmp_path, reports_of(tested, other))] == ["validation", "validation"]


@pytest.mark.parametrize("data", ["synthetic", "folder"])
def test_other_data_have_no_published_figures(tmp_path: Path, drawn: FaceSamples, data: str) -> None:
    runs = [
        fake_run(
            tmp_path / f"{name}-s0",
            drawn,
            splits=TESTED,
            stored=False,
            **{**AS_PUBLISHED, "recipe": name, "data": data},
        )
        for name in ("attention_cnn", "resnet50")
    ]
    page = read_page(write_study_page(tmp_path, reports_of(*runs)))
    assert not any(rate in page.text for rate in PUBLISHED_RATES)
    assert PUBLISHED["title"] not in page.text
    assert "7,178" not in page.text
    assert "Not as published" not in page.text
    assert row_of(page, "resnet50")  # "fine-tuned" is what the published one was
    assert ("Drawn faces, not people." in page.text) == (data == "synthetic")


def test_what_a_study_holds_is_text_and_nothing_else(tmp_path: Path, drawn: FaceSamples) -> None:
    evil = '<script>alert("1")<!-- & $x$ #?%20'
    run = fake_run(tmp_path / f"{evil}-s0", drawn, recipe=evil, model=evil, data=evil, machine=evil)
    write_run_page(run, drawn)
    page = read_page(write_study_page(tmp_path, reports_of(run), drawn, command=evil))
    assert page.text.count(evil) >= 8
    assert page.faces


def test_views_stand_beside_the_figures(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "small-s0", drawn, stored=False, views=10)
    assert "10 views" in row_of(read_page(write_study_page(tmp_path, reports_of(run))), "small")[1]


def test_robustness_stands_side_by_side_where_two_rows_have_a_card(tmp_path: Path, drawn: FaceSamples) -> None:
    runs = [fake_run(tmp_path / f"{name}-s0", drawn, recipe=name) for name in ("plain", "attention")]
    save_robustness(runs[0].path, fake_robustness(0.7))
    write_study_page(tmp_path, reports_of(*runs))
    assert not (tmp_path / "figures" / "robustness_compared.svg").exists()
    save_robustness(runs[1].path, fake_robustness(0.6))
    page = write_study_page(tmp_path, reports_of(*runs))
    assert {"70 %", "60 %"} <= set(re.findall(r"[67]0 %", plain(read_page(page).text)))
    assert "attention" in (tmp_path / "figures" / "robustness_compared.svg").read_text()


def test_studies_that_cannot_be_compared(tmp_path: Path, drawn: FaceSamples) -> None:
    with pytest.raises(RunError, match="expected a study with a finished run, got none"):
        write_study_page(tmp_path, reports_of())
    one = fake_run(tmp_path / "one-s0", drawn, splits=("validation",), stored=False, recipe="one")
    other = fake_run(tmp_path / "other-s0", drawn, splits=("private_test",), stored=False, recipe="other")
    with pytest.raises(RunError, match="share no split"):
        write_study_page(tmp_path, reports_of(one, other))


def test_all_rows_are_compared_on_the_most_final_split_that_they_share() -> None:
    def report(protocol: str | None, *splits: str) -> Report:
        return Report(
            model="any", recipe="any", protocol=protocol, results=tuple(result(split, 7, 0.5) for split in splits)
        )

    everything = ("validation", "public_test", "private_test", "published_test")
    assert common_split([report("published", *everything)]) == "published_test"
    assert common_split([report("published", *everything), report("contest", *everything)]) == "private_test"
    assert common_split([report(None, *everything), report("contest", *everything)]) == "private_test"
    assert common_split([report("published", *everything), report("published", "validation")]) == "validation"


def test_deviations_name_what_differs_and_nothing_else(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, stored=False, **AS_PUBLISHED)
    assert deviations(run, run.load_report()) == ()
    write_recipe(run, "seed=7", "name=other", "training.precision=bfloat16", "training.channels_last=true")
    assert deviations(run, run.load_report()) == ()
    write_recipe(run, "augmentation.flip=0", "training.clip_norm=1.0", "training.epochs=9")
    report = dataclasses.replace(run.load_report(), epochs=9, protocol="contest", model="vit_tiny")
    assert deviations(run, report) == (
        Deviation("model.name", "vit_tiny", "attention_cnn"),
        Deviation("training.epochs", 9, 25),
        Deviation("data.protocol", "contest", "published"),
        Deviation("augmentation.flip", 0.0, 0.5),
        Deviation("training.clip_norm", 1.0, None),
    )
    assert [found.is_main for found in deviations(run, report)] == [True, True, True, False, False]


@pytest.mark.parametrize("name", PUBLISHED["rows"])
def test_every_published_row_has_a_recipe_of_its_size(name: str) -> None:
    recipe, row = load_recipe(find_recipe(f"published/{name}")), PUBLISHED["rows"][name]
    assert (recipe.model.input_size, recipe.training.epochs) == (row["input_size"], row["epochs"])
    assert recipe.data.protocol == "published"


def result(split: str, n: int, accuracy: float) -> SplitResult:
    return SplitResult(split, Subset.ALL, n, 1, {"accuracy": Estimate(accuracy)}, {}, ())


def compared(title: str, *accuracies: float, n: int = 7178, split: str = "published_test") -> ComparedRow:
    reports = tuple(Report(model="any", recipe=title, results=(result(split, n, accuracy),)) for accuracy in accuracies)
    return ComparedRow(title, (), reports, split)


def study_of(folder: Path, drawn: FaceSamples, skills: dict[str, float], **changes: Any) -> list[ComparedRow]:
    """Rows of one run each, on 21 validation images."""
    changes = {"most_frequent": "happy", **changes}
    runs = [
        fake_run(folder / f"{name}-s0", drawn, recipe=name, skill=skill, seed=0, **changes)
        for name, skill in skills.items()
    ]
    for run in runs:
        name = run.load_report().recipe
        run.recipe_path.write_text(to_toml(load_recipe(find_recipe("smoke/compact_resnet"), [f"name={name}"])))
    return compare(folder, reports_of(*runs))


def test_a_lead_is_only_claimed_where_it_is_shown(tmp_path: Path, drawn: FaceSamples) -> None:
    rows = study_of(tmp_path / "told", drawn, {"strong": 9.0, "weak": 1.4, "good": 8.0})
    told = conclude(rows)
    assert [row.name for row in told.ranked] == ["strong", "good", "weak"]
    assert [row.name for row in told.level] == ["good"]
    assert told.at_chance == []
    first = conclusion_sentences(rows)[0]
    assert "comes first" not in first
    assert "cannot be told at 95\u00a0% from good." in first
    assert plain(first) in plain(read_page(write_study_page(tmp_path / "told", [row.report for row in rows])).text)
    alone = study_of(tmp_path / "alone", drawn, {"strong": 9.0, "weak": 1.0})
    assert conclude(alone).level == []
    assert conclusion_sentences(alone)[0].startswith("strong comes first with")
    for row in alone:
        row.runs[0].predictions_path("validation").unlink()
    assert conclude(alone).pairs == []
    assert "not stored" in conclusion_sentences(alone)[0]


def test_models_at_chance_level_are_not_ranked(tmp_path: Path, drawn: FaceSamples) -> None:
    rows = study_of(tmp_path / "chance", drawn, {"one": 0.0, "other": 0.1})
    told = conclude(rows)
    assert {row.name for row in told.at_chance} == {"one", "other"}
    assert told.always is not None
    first = conclusion_sentences(rows)[0]
    assert first.startswith("No model is shown to be better than always answering happy, which reaches 14.3")
    assert "first" not in first
    some = study_of(tmp_path / "some", drawn, {"one": 0.0, "learnt": 5.0})
    assert [row.name for row in conclude(some).at_chance] == ["one"]
    assert conclusion_sentences(some)[0].endswith("always answering happy (14.3\u00a0%): one.")
    unknown = study_of(tmp_path / "unknown", drawn, {"one": 0.0}, most_frequent=None)
    assert (conclude(unknown).always, conclude(unknown).at_chance) == (None, [])


def test_the_interval_of_a_mean_over_seeds_is_of_that_mean() -> None:
    low, high = compared("A", 0.50, 0.51, 0.51, n=10).interval  # 5.07 of 10 images, not 5
    assert (low, high) == pytest.approx(wilson_interval(10 * (0.50 + 0.51 + 0.51) / 3, 10))
    assert low > wilson_interval(5, 10)[0]


def test_nothing_is_asked_of_a_single_row() -> None:
    assert answers([compared("A", 0.5)], []) is None


def test_the_page_ranks_its_rows(tmp_path: Path, drawn: FaceSamples) -> None:
    runs = [
        fake_run(tmp_path / f"{name}-s0", drawn, recipe=name, skill=skill, stored=False)
        for name, skill in (("weak", 0.5), ("strong", 9.0), ("middle", 2.0))
    ]
    text = plain(read_page(write_study_page(tmp_path, reports_of(*runs))).text)
    strong, middle, weak = (
        f"{100 * run.load_report().headline().accuracy.value:.1f} %" for run in (runs[1], runs[2], runs[0])
    )
    assert re.search(rf"strong .{{0,20}}{strong}.*? middle .*? weak .{{0,20}}{weak}", text)
    assert middle in text


def test_noise_is_what_95_of_100_differences_stay_under() -> None:
    found = noise([compared("A", 0.3, n=560), compared("B", 0.1, n=560)])
    assert (found.images, found.seeds) == (pytest.approx(0.0537, abs=1e-4), None)  # of one standard error 2.7
    assert found.points == found.images
    seeds = noise([compared("A", 0.50, 0.52, 0.54, n=100_000), compared("B", 0.4, n=100_000)])
    assert seeds.images == pytest.approx(1.96 * (2 * 0.52 * 0.48 / 100_000) ** 0.5, abs=1e-6)
    assert seeds.points == seeds.seeds == pytest.approx(4.303 * 2**0.5 * 0.02, abs=1e-4)  # Student's at 2


def test_noise_covers_the_differences_of_equal_recipes() -> None:
    """Of the 40 pairs of runs of one recipe in results/controlled, 15 differ by more than a point."""
    rows = compare(RESULTS / "controlled", study_reports(RESULTS / "controlled"))
    accuracies = [[found.accuracy.value for found in row.results] for row in rows]
    differences = np.array([abs(one - other) for each in accuracies for one, other in combinations(each, 2)])
    assert (len(differences), (differences > 0.01).sum(), differences.max()) == (
        40,
        15,
        pytest.approx(0.0248, abs=1e-4),
    )
    found = noise(rows)
    assert found.seeds is not None
    assert (found.images, found.seeds) == (pytest.approx(0.0231, abs=1e-4), pytest.approx(0.0233, abs=1e-4))
    assert (differences > found.images).sum() == (differences > found.seeds).sum() == 1


@pytest.mark.parametrize(
    ("study", "title"),
    [("published", "A re-creation of"), ("gpu", "CNN with spatial attention: re-created from")],
)
def test_a_page_is_called_a_re_creation_only_where_its_rows_are_the_published_models(
    tmp_path: Path, study: str, title: str
) -> None:
    shutil.copytree(RESULTS / study, tmp_path / study)
    text = read_page(write_study_page(tmp_path / study, study_reports(RESULTS / study), pictures=False)).text
    assert f"{title} “{PUBLISHED['title']}”" in text
    assert ("A re-creation of" in text) == (study == "published")


def test_answering_always_with_the_most_frequent_class_is_a_row(
    replication: tuple[Path, list[Report]], page: Page, tmp_path: Path, drawn: FaceSamples
) -> None:
    result = replication[1][0].result("published_test")
    assert result is not None
    happy = result.confusion[3]
    low, high = wilson_interval(sum(happy), result.n)
    row = row_of(page, "always happy")
    assert row[1:4] == [DASH, f"{100 * sum(happy) / 42:.1f} %", f"{100 * low:.1f}{DASH}{100 * high:.1f} %"]
    assert row[5] == f"{2 * 6 / (42 + 6) / 7:.3f}"  # F1 of happy, over seven classes of which six have none
    unknown = fake_run(tmp_path / "small-s0", drawn)
    page = read_page(write_study_page(tmp_path, reports_of(unknown)))
    assert not [each for each in page.rows if each and each[0].startswith("always")]
    known = dataclasses.replace(unknown.load_report(), most_frequent="sad")
    assert row_of(read_page(write_study_page(tmp_path, [known])), "always sad")[1] == "14.3 %"


def test_the_most_frequent_class_on_committed_results() -> None:
    """24.5 % of PrivateTest are happy, 879 of 3,589; on unseen images another share."""
    (row, *_) = compare(RESULTS / "controlled", study_reports(RESULTS / "controlled"))
    found, unseen = row.always(), row.always(Subset.UNSEEN)
    assert found is not None
    assert unseen is not None
    assert (found.name, found.accuracy.value) == ("happy", 879 / 3589)
    assert unseen.accuracy.value == pytest.approx(0.2551, abs=0.02)


def test_spread_is_over_the_seeds() -> None:
    found = spread([0.5, 0.6, 0.4])
    assert (found.mean, found.deviation) == (pytest.approx(0.5), pytest.approx(0.1))
    assert spread([0.5]).deviation is None
