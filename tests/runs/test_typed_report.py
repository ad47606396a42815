"""``report.json`` as a value: to the byte and back, and damage named."""

import dataclasses
import json
from pathlib import Path

import pytest

from mien.errors import RunError
from mien.runs import Estimate, Report, SplitResult, Subset, load_report, load_run
from mien.runs.report import common_split, parse_report

ROOT = Path(__file__).parents[2]
COMMITTED = [*sorted((ROOT / "results").rglob("report.json")), *sorted((ROOT / "src/mien/face/assets").glob("*.json"))]
RESULT = {"n": 4, "accuracy": 0.5, "accuracy_ci95": [0.2, 0.8], "recall": [0.5, 1.0], "confusion": [[1, 1], [1, 1]]}


def report(**values: object) -> Report:
    return parse_report({"model": "cnn", "recipe": "small", "views": 2, **values}, "here")


def test_every_committed_report_round_trips_to_the_byte() -> None:
    assert len(COMMITTED) > 70
    for path in COMMITTED:
        assert load_report(path).to_json() == path.read_text(encoding="utf-8"), path


def test_no_committed_report_has_a_key_without_a_type() -> None:
    assert {key for path in COMMITTED for key in load_report(path).extra} == set()


def test_results_are_asked_by_split_and_subset() -> None:
    found = report(results={"private_test": RESULT, "private_test_unseen": {**RESULT, "n": 3}})
    assert found.splits == ("private_test",)
    unseen = found.result("private_test", "unseen")
    assert unseen is not None
    assert (unseen.n, unseen.subset, unseen.is_test, unseen.key) == (3, Subset.UNSEEN, True, "private_test_unseen")
    assert found.result("private_test", Subset.FERPLUS) is None
    assert found.result("validation") is None
    assert found.headline().accuracy == Estimate(0.5, (0.2, 0.8))
    assert found.headline().classes["recall"] == (Estimate(0.5), Estimate(1.0))
    assert found.headline().views == 2
    assert found.headline().counts.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("protocol", "expected"), [("contest", "private_test"), ("published", "published_test"), (None, "published_test")]
)
def test_the_headline_is_the_most_final_split_of_the_protocol(protocol: str | None, expected: str) -> None:
    splits = ["validation", "public_test", "private_test", "published_test", "training"]
    assert report(protocol=protocol, results=dict.fromkeys(splits, RESULT)).headline().split == expected
    assert report(protocol=protocol, results={"training": RESULT}).headline().split == "training"
    with pytest.raises(RunError, match="mien evaluate"):
        report(protocol=protocol).headline()


def test_the_common_split_is_one_that_all_have() -> None:
    one = report(protocol="contest", results=dict.fromkeys(["validation", "private_test", "published_test"], RESULT))
    other = report(protocol="published", results=dict.fromkeys(["validation", "published_test"], RESULT))
    assert common_split([one, other]) == "published_test"
    assert common_split([one]) == "private_test"
    with pytest.raises(RunError, match="share no split"):
        common_split([one, report()])


def test_new_results_replace_those_of_the_same_split_and_subset() -> None:
    before = report(results={"validation": RESULT, "private_test": RESULT})
    fresh = SplitResult("validation", Subset.ALL, 2, 1, {"accuracy": Estimate(1.0)}, {}, ((1, 0), (0, 1)))
    after = before.with_results([fresh, dataclasses.replace(fresh, split="public_test")])
    assert [each.key for each in after.results] == ["validation", "private_test", "public_test"]
    assert json.loads(after.to_json())["results"]["validation"] == {
        "n": 2, "accuracy": 1.0, "confusion": [[1, 0], [0, 1]], "views": 1,
    }  # fmt: skip


def test_what_a_report_does_not_say_is_not_written() -> None:
    content = json.loads(Report(model="cnn", recipe="small", best_epoch=None, order=("recipe", "best_epoch")).to_json())
    assert list(content) == ["recipe", "best_epoch", "model", "results"]
    assert content["best_epoch"] is None


@pytest.mark.parametrize(
    "content",
    [
        [], {}, {"recipe": "a"}, {"model": "cnn", "recipe": "a", "seed": "1"},
        {"model": "cnn", "recipe": "a", "results": []}, {"model": "cnn", "recipe": "a", "results": {"validation": 1}},
        {"model": "cnn", "recipe": "a", "results": {"validation": {"n": 1, "confusion": []  , "accuracy": "high"}}},
        {"model": "cnn", "recipe": "a", "results": {"validation": {**RESULT, "recall_ci95": [[0, 1]]}}},
    ],
)  # fmt: skip
def test_a_damaged_report_is_named(tmp_path: Path, content: object) -> None:
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"report\.json is damaged"):
        load_run(tmp_path).load_report()


def test_a_run_without_a_report_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").touch()
    with pytest.raises(RunError, match="--resume"):
        load_run(tmp_path).load_report()
