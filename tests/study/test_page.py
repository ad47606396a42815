"""The page of a study: what it says about its rows, about the published ones, and what it does not claim."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.fake_runs import Page, fake_card, fake_run, note_look, plain, read_page

from mien.data import FaceSamples
from mien.errors import RunError
from mien.evaluation.metrics import wilson_interval
from mien.evaluation.report import write_report
from mien.evaluation.robustness import store_card
from mien.evaluation.wording import common_split
from mien.recipe import load_recipe, override_recipe, to_toml
from mien.runs import Run
from mien.study.answer import answer, noise
from mien.study.comparison import ComparedRow, compare, spread
from mien.study.deviations import deviations
from mien.study.page import write_index
from mien.study.published import PUBLISHED
from mien.study.suites import find_recipe

TESTED = ("validation", "published_test")
AS_PUBLISHED: dict[str, Any] = {
    "recipe": "attention_cnn", "protocol": "published", "input_size": 128, "epochs": 25, "data": "fer2013",
}  # fmt: skip
PUBLISHED_RATES = ("58.9 %", "43.5 %", "45.4 %", "67.4 %", "66.2 %")


def study_of(*runs: Run, **more: Any) -> dict[str, Any]:
    return {"published": PUBLISHED, "rows": [run.report() for run in runs], **more}


def write_recipe(run: Run, *overrides: str) -> None:
    recipe = load_recipe(find_recipe(f"published/{run.report()['recipe']}"))
    run.recipe_path.write_text(to_toml(override_recipe(recipe, overrides)))


@pytest.fixture(scope="module")
def replication(tmp_path_factory: pytest.TempPathFactory, drawn: FaceSamples) -> tuple[Path, dict[str, Any]]:
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
    study = study_of(*runs, command="mien study --final")
    write_index(folder, study, drawn)
    return folder, study


@pytest.fixture(scope="module")
def page(replication: tuple[Path, dict[str, Any]]) -> Page:
    return read_page(replication[0] / "index.html")


def row_of(page: Page, title: str) -> list[str]:
    return next(row for row in page.rows if row and row[0] == title)


def test_rows_of_different_machines_are_told_apart(tmp_path: Path, drawn: FaceSamples) -> None:
    here = fake_run(tmp_path / "small-s0", drawn, recipe="small", seed=0)
    there = fake_run(tmp_path / "large-s0", drawn, recipe="large", seed=0, device="a GPU")
    write_index(tmp_path, study_of(here), drawn)
    assert "in training, on a computer." in " ".join(read_page(tmp_path / "index.html").text.split())
    write_index(tmp_path, study_of(here, there), drawn)
    text = " ".join(read_page(tmp_path / "index.html").text.split())
    assert "in training, on a computer (small); a GPU, a computer (large)." in text
    write_index(tmp_path, study_of(there), drawn)
    assert "in training, on a GPU, a computer." in " ".join(read_page(tmp_path / "index.html").text.split())


def test_the_table_gives_mean_and_deviation_of_the_seeds(replication: tuple[Path, dict[str, Any]], page: Page) -> None:
    folder, study = replication
    results = [report["results"] for report in study["rows"][:3]]
    accuracy = spread([found["published_test"]["accuracy"] for found in results])
    unseen = spread([found["published_test_unseen"]["accuracy"] for found in results])
    low, high = wilson_interval(round(42 * accuracy.mean), 42)
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
    assert "Figures below are of seed 0. Full report: seed 0 , seed 1 , seed 2 ." in page.text
    assert "(4 lines)" in page.text
    assert "2 of the 42 test pictures have an identical copy in Training (4.8 %)" in page.text
    assert len(page.faces) > 10


def test_published_figures_are_compared_only_where_the_configuration_is_the_same(
    replication: tuple[Path, dict[str, Any]], page: Page
) -> None:
    alike, other = compare(*replication)
    gap = alike.accuracy.mean - 0.454
    assert not alike.deviations
    assert (
        f"In the published configuration: CNN with spatial attention {100 * alike.accuracy.mean:.1f} %,"
        f" {100 * abs(gap):.1f} points {'above' if gap > 0 else 'below'} the published 45.4 %."
    ) in page.text
    assert [found.key for found in other.deviations] == ["model.input_size", "model.weights", "training.epochs"]
    assert "ResNet-50 with CBAM is not in the published configuration" in page.text
    remark = [
        "input 48 px (published 224)",
        "weights from a file (published ImageNet weights)",
        "25 epochs (published 20)",
    ]
    assert f"Not as published: {', '.join(remark)}." in page.text  # in the table
    assert f"Not as published: {'; '.join(remark)}." in page.text  # with the model
    assert row_of(page, "ResNet-50 with CBAM")[11] == "file"
    assert "66.2 % after 5 epochs" in page.text
    chart = (replication[0] / "figures" / "comparison.svg").read_text()
    assert "published</text>" in chart
    assert "published, other configuration</text>" in chart


def test_equal_studies_give_equal_bytes_and_no_face_where_none_is_wanted(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "small-s0", drawn)
    page = write_index(tmp_path, study_of(run), drawn)
    written = page.read_bytes()
    assert b"data:image" in written
    assert write_index(tmp_path, study_of(run), drawn).read_bytes() == written
    assert write_index(tmp_path, study_of(run), drawn, pictures=False) == page
    assert b"data:image" not in page.read_bytes()
    assert ["row", "label", "prediction", "confidence"] in read_page(page).rows


def test_validation_alone_claims_no_replication(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "attention_cnn-s0", drawn, stored=False, **AS_PUBLISHED)
    page = read_page(write_index(tmp_path, study_of(run)))
    assert "Validation only. The test pictures were not looked at." in page.text
    assert "Ours are validation figures: other pictures, so no replication." in page.text
    assert "In the published configuration" not in page.text
    assert "unseen" not in page.text
    assert row_of(page, "CNN with spatial attention")[1] == "45.4 %"
    chart = (tmp_path / "figures" / "comparison.svg").read_text()
    assert "published, other configuration</text>" in chart
    assert "published</text>" not in chart


def test_rows_without_test_figures_bring_all_back_to_validation(tmp_path: Path, drawn: FaceSamples) -> None:
    tested = fake_run(tmp_path / "attention_cnn-s0", drawn, splits=TESTED, stored=False, **AS_PUBLISHED)
    other = fake_run(tmp_path / "baseline_cnn-s0", drawn, stored=False, **{**AS_PUBLISHED, "recipe": "baseline_cnn"})
    page = read_page(write_index(tmp_path, study_of(tested, other)))
    assert "Not every row has test figures, so all are compared on validation." in page.text
    assert page.text.count("The test pictures were not looked at.") == 1  # of the other row alone


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
    page = read_page(write_index(tmp_path, study_of(*runs)))
    assert not any(rate in page.text for rate in PUBLISHED_RATES)
    assert PUBLISHED["title"] not in page.text
    assert "7,178" not in page.text
    assert "Not as published" not in page.text
    assert row_of(page, "resnet50")  # "fine-tuned" is what the published one was
    assert ("Drawn faces, not people." in page.text) == (data == "synthetic")


def test_what_a_study_holds_is_text_and_nothing_else(tmp_path: Path, drawn: FaceSamples) -> None:
    evil = '<script>alert("1")<!-- & $x$ #?%20'
    run = fake_run(tmp_path / f"{evil}-s0", drawn, recipe=evil, model=evil, data=evil, machine=evil)
    write_report(run, drawn)
    page = read_page(write_index(tmp_path, study_of(run, command=evil), drawn))
    assert page.text.count(evil) >= 8
    assert page.faces


def test_views_stand_beside_the_figures(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path / "small-s0", drawn, stored=False, views=10)
    assert "10 views" in row_of(read_page(write_index(tmp_path, study_of(run))), "small")[1]


def test_robustness_stands_side_by_side_where_two_rows_have_a_card(tmp_path: Path, drawn: FaceSamples) -> None:
    runs = [fake_run(tmp_path / f"{name}-s0", drawn, recipe=name) for name in ("plain", "attention")]
    store_card(runs[0].path, fake_card(0.7))
    write_index(tmp_path, study_of(*runs))
    assert not (tmp_path / "figures" / "robustness_compared.svg").exists()
    store_card(runs[1].path, fake_card(0.6))
    page = write_index(tmp_path, study_of(*runs))
    assert "plain (70 %) keeps most, attention (60 %) least" in plain(read_page(page).text)
    assert "attention" in (tmp_path / "figures" / "robustness_compared.svg").read_text()


def test_studies_that_cannot_be_compared(tmp_path: Path, drawn: FaceSamples) -> None:
    with pytest.raises(RunError, match="no finished run"):
        write_index(tmp_path, study_of())
    one = fake_run(tmp_path / "one-s0", drawn, splits=("validation",), stored=False, recipe="one")
    other = fake_run(tmp_path / "other-s0", drawn, splits=("private_test",), stored=False, recipe="other")
    with pytest.raises(RunError, match="share no split"):
        write_index(tmp_path, study_of(one, other))


def test_all_rows_are_compared_on_the_most_final_split_that_they_share() -> None:
    def report(protocol: str, *splits: str) -> dict[str, Any]:
        return {"protocol": protocol, "results": dict.fromkeys(splits)}

    everything = ("validation", "public_test", "private_test", "published_test")
    assert common_split([report("published", *everything)]) == "published_test"
    assert common_split([report("published", *everything), report("contest", *everything)]) == "private_test"
    assert common_split([report("published", *everything), report("published", "validation")]) == "validation"


def test_deviations_name_what_differs_and_nothing_else(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, stored=False, **AS_PUBLISHED)
    published = PUBLISHED["rows"]["attention_cnn"]
    assert deviations(run, run.report(), published) == ()
    write_recipe(run, "seed=7", "name=other", "training.precision=bfloat16", "training.channels_last=true")
    assert deviations(run, run.report(), published) == ()
    write_recipe(run, "augmentation.flip=0", "training.clip_norm=1.0", "training.epochs=9")
    report = {**run.report(), "epochs": 9, "protocol": "contest", "model": "vit_tiny"}
    found = deviations(run, report, published)
    assert [(deviation.words, deviation.is_main) for deviation in found] == [
        ("model vit_tiny (published attention_cnn)", True),
        ("9 epochs (published 25)", True),
        ("protocol contest (published published)", True),
        ("augmentation.flip 0.0 (published 0.5)", False),
        ("training.clip_norm 1.0 (published default)", False),
    ]


@pytest.mark.parametrize("name", PUBLISHED["rows"])
def test_every_published_row_has_a_recipe_of_its_size(name: str) -> None:
    recipe, row = load_recipe(find_recipe(f"published/{name}")), PUBLISHED["rows"][name]
    assert (recipe.model.input_size, recipe.training.epochs) == (row["input_size"], row["epochs"])
    assert recipe.data.protocol == "published"


def compared(
    title: str, *accuracies: float, n: int = 7178, split: str = "published_test", published: float | None = None
) -> ComparedRow:
    reports = tuple({"results": {split: {"n": n, "accuracy": accuracy}}, "views": 1} for accuracy in accuracies)
    known = None if published is None else {"accuracy": published}
    return ComparedRow(title, (), reports, split, known)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([compared("A", 0.5)], "A reaches 50.0 % (95 % interval 48.8\N{EN DASH}51.2 %) of 7,178 test pictures"),
        ([compared("A", 0.5), compared("B", 0.6)], "B comes first with 60.0 %"),
        (
            [compared("A", 0.5), compared("B", 0.6)],
            "A follows 10.0 points behind; their predictions are not stored here, so whether that is chance is not",
        ),
        ([compared("A", 0.5), compared("B", 0.5)], "B is level with it."),
        ([compared("A", 0.5), compared("B", 0.6), compared("C", 0.4)], "C comes last with 40.0 %."),
        ([compared("A", 0.5, 0.6)], "A reaches 55.0 % on average over 2 seeds"),
        ([compared("A", 0.5)], "its spread from seed to seed is not known. Differences under about 1 point between"),
        ([compared("A", 0.5, n=60)], "Differences under about 9 points"),
        ([compared("A", 0.5, 0.6), compared("B", 0.4)], "trained with 1 to 2 seeds"),
        ([compared("A", 0.5, published=0.52)], "A 50.0 %, 2.0 points below the published 52.0 %"),
        ([compared("A", 0.5, published=0.45)], "A 50.0 %, 5.0 points above the published 45.0 %"),
    ],
)
def test_the_answer_says_what_the_rows_allow(rows: list[ComparedRow], words: str) -> None:
    assert words in plain(" ".join(answer(rows)))


def test_the_answer_does_not_compare_other_pictures_or_configurations() -> None:
    row = compared("A", 0.5, split="validation", published=0.45)
    assert "published" not in " ".join(answer([row]))
    differing = dataclasses.replace(compared("A", 0.5, published=0.45), deviations=("any",))  # type: ignore[arg-type]
    assert "45.0" not in plain(" ".join(answer([differing])))
    assert "A is not in the published configuration" in plain(" ".join(answer([differing])))


def test_noise_is_the_standard_error_of_a_difference_and_at_least_a_point() -> None:
    assert noise(compared("A", 0.5, n=200)) == pytest.approx((2 * 0.25 / 200) ** 0.5)
    assert noise(compared("A", 0.5, n=100_000)) == 0.01


def test_spread_is_over_the_seeds() -> None:
    found = spread([0.5, 0.6, 0.4])
    assert (found.mean, found.deviation) == (pytest.approx(0.5), pytest.approx(0.1))
    assert spread([0.5]).deviation is None
