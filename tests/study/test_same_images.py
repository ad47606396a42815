"""Rows stand under one heading only where their results are of the same images."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import small_recipe
from tests.fake_runs import fake_run, read_page

from mien.cli import main
from mien.data import FaceSamples
from mien.errors import CallError
from mien.recipe import DataSettings
from mien.report.study_page import write_study_page
from mien.runs import Run
from mien.study import run_study
from mien.study.comparison import compare_runs
from mien.study.folder import gather
from mien.study.same_images import images_of, validated_on
from mien.training import fit

BOTH = ("validation", "published_test")


def row(folder: Path, drawn: FaceSamples, name: str, **changes: Any) -> Run:
    told = {"recipe": name, "data_sha256": drawn.content_sha256(), **changes}
    return fake_run(folder / f"{name}-s0", drawn, **told)


def test_rows_of_other_folds_or_held_out_numbers_are_refused_before_the_first_epoch(
    tmp_path: Path, drawn: FaceSamples
) -> None:
    def study(one: dict[str, object], other: dict[str, object], **options: Any) -> list[Run]:
        rows = [small_recipe(name=name, data=data, training={"epochs": 1}) for name, data in (("n", one), ("m", other))]
        return list(run_study(rows, drawn, tmp_path / "out", accelerator="cpu", **options))

    with pytest.raises(CallError, match=r"fold 0 of 5: n-s0; .*fold 1 of 5: m-s0"):
        study({"fold": 0}, {"fold": 1})
    with pytest.raises(CallError, match=r"21 images of validation.*: n-s0; .* 50 images of validation.*: m-s0"):
        study({"protocol": "published"}, {"protocol": "published", "validation_rows": 50})
    assert not (tmp_path / "out").exists()
    default = len(drawn.split_for("validation", DataSettings(protocol="published")))  # type: ignore[arg-type]
    assert len(study({"protocol": "published"}, {"protocol": "published", "validation_rows": default})) == 2


def test_folds_can_be_compared_on_test_images(tmp_path: Path, drawn: FaceSamples) -> None:
    rows = [small_recipe(name=f"n{fold}", data={"fold": fold}, training={"epochs": 1}) for fold in (0, 1)]
    for _ in range(2):  # again without --final: the results are there
        done = list(run_study(rows, drawn, tmp_path, final=True, accelerator="cpu"))
        assert len(gather(tmp_path, done).reports) == 2
    assert len(list(run_study(rows, drawn, tmp_path, accelerator="cpu"))) == 2


def test_rows_of_other_held_out_images_in_the_folder_are_named_and_not_compared(
    tmp_path: Path, drawn: FaceSamples
) -> None:
    first = small_recipe(name="first", data={"protocol": "published"}, training={"epochs": 1})
    list(run_study([first], drawn, tmp_path, accelerator="cpu"))
    second = small_recipe(name="second", data={"protocol": "published", "validation_rows": 50}, training={"epochs": 1})
    (run,) = run_study([second], drawn, tmp_path, accelerator="cpu")
    study = gather(tmp_path, [run])
    assert [report.recipe for report in study.reports] == ["second"]
    (left_out,) = study.left_out
    assert left_out.row == "first-s0"
    assert "21 images of validation" in left_out.reason
    assert "50 images of validation" in left_out.reason
    page = read_page(write_study_page(tmp_path, study.reports, left_out=study.left_out))
    assert "Not compared: first-s0" in page.text


def test_rows_are_compared_on_the_split_that_all_of_them_share(tmp_path: Path, drawn: FaceSamples) -> None:
    contest = row(tmp_path, drawn, "contest", splits=BOTH)
    published = row(tmp_path, drawn, "published", splits=BOTH, protocol="published")
    assert not gather(tmp_path, [contest, published]).left_out  # on published_test
    untested = row(tmp_path, drawn, "untested")
    for rows, compared, left_out in (
        ([untested], {"untested", "contest"}, "published-s0"),  # on validation
        ([contest, published], {"contest", "published"}, "untested-s0"),
        ([contest, published, untested], {"contest", "published"}, "untested-s0"),
    ):
        study = gather(tmp_path, rows)
        assert {report.recipe for report in study.reports} == compared
        assert [each.row for each in study.left_out] == [left_out]


def test_validation_by_subject_is_another_than_without(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = row(tmp_path / "study", drawn, "plain", protocol="published")
    grouped = row(tmp_path / "study", drawn, "grouped", protocol="published", group="(S[0-9]+)_")
    assert plain.load_report().headline().n == grouped.load_report().headline().n
    (left_out,) = gather(tmp_path / "study", [plain]).left_out
    assert left_out.row == "grouped-s0"
    assert "by subject ((S[0-9]+)_)" in left_out.reason
    arguments = ["mien", "report", str(plain.path), str(grouped.path), "--out", str(tmp_path / "page")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"by subject ((S[0-9]+)_): {grouped.path}" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_a_run_is_of_the_images_that_its_recipe_announced(tmp_path: Path, drawn: FaceSamples) -> None:
    for number, data in enumerate(({}, {"protocol": "published"}, {"fold": 2, "folds": 4})):
        recipe = small_recipe(data=data, training={"epochs": 1})
        report = fit(recipe, drawn, tmp_path / str(number), accelerator="cpu").load_report()
        assert images_of(report, "validation") == validated_on(recipe.data, drawn)


def test_a_folder_that_moved_is_the_same_data(tmp_path: Path, drawn: FaceSamples) -> None:
    runs = [
        row(tmp_path, drawn, "here", data="folder:here"),
        row(tmp_path, drawn, "there", data="folder:there"),
    ]
    assert not gather(tmp_path, runs).left_out
    assert len(compare_runs(runs)) == 2
