"""What a study may say of single settings: which rows are put against each other, and the words for it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import small_recipe
from tests.fake_runs import fake_run, plain, read_page

from mien.data import FaceSamples
from mien.evaluation.compare import Entry
from mien.evaluation.significance import picture_effect
from mien.models import model_defaults
from mien.recipe import load_recipe, to_toml
from mien.report.study_conclusions import answers, conclusion_sentences
from mien.report.study_page import write_study_page
from mien.runs import Report
from mien.study.comparison import ComparedRow, compare
from mien.study.effects import NearPair, SettingEffect, entries_of, setting_effects

Seeds = tuple[int, ...]


def study(folder: Path, samples: FaceSamples, models: dict[str, dict[str, Any]], seeds: Seeds = (0,)) -> list[Report]:
    """Runs whose recipes differ in ``[model]``, or in ``training``; ``skill`` says how good they are."""
    reports = []
    for number, (name, model) in enumerate(models.items()):
        skill, training = model.pop("skill", 1.0), model.pop("training", {})
        for seed in seeds:
            run = fake_run(
                folder / f"{name}-s{seed}", samples, skill=skill, recipe=name, seed=100 * number + seed,
                initialization=model.get("weights", "scratch"),
            )  # fmt: skip
            report = dataclasses.replace(run.load_report(), seed=seed)
            report.save(run.report_path)
            recipe = small_recipe(name=name, seed=seed, model=model, training=training)
            run.recipe_path.write_text(to_toml(recipe.with_defaults(model_defaults(recipe.model))))
            reports.append(report)
    return reports


def evidence(folder: Path, reports: list[Report]) -> tuple[list[ComparedRow], dict[str, Entry]]:
    rows = compare(folder, reports)
    entries = entries_of(rows)
    assert entries is not None
    return rows, entries


def attention(**rows: str) -> dict[str, dict[str, Any]]:
    return {name: {"name": "compact_resnet", "attention": kind} for name, kind in rows.items()}


def test_rows_that_differ_in_one_setting_are_put_against_the_row_without_it(tmp_path: Path, drawn: FaceSamples) -> None:
    models = attention(cbam="cbam", se="se")
    models["plain"] = {"name": "compact_resnet"}  # has no attention by itself
    models["cnn"] = {"name": "attention_cnn"}  # has spatial attention by itself, and is another network
    rows, entries = evidence(tmp_path, study(tmp_path, drawn, models))
    found = setting_effects(rows, entries)
    assert [(*each.contrast.keys, each.contrast.values, each.contrast.model) for each in found] == [
        ("model.attention", ("cbam", "none"), "compact_resnet"),
        ("model.attention", ("se", "none"), "compact_resnet"),
    ]
    assert all(each.contrast.fixed == () and each.contrast.averaged_over is None for each in found)
    accuracy = {row.title: row.accuracy.mean for row in rows}
    assert found[0].effect.difference == pytest.approx(accuracy["cbam"] - accuracy["plain"])
    assert all(effect.adjusted >= effect.effect.p_value for effect in found)
    assert all(effect.effect.seeds == 1 for effect in found)


def test_a_row_that_was_trained_again_is_not_put_against_itself(tmp_path: Path, drawn: FaceSamples) -> None:
    models = attention(cbam="cbam", plain="none", again="none")
    found = setting_effects(*evidence(tmp_path, study(tmp_path, drawn, models)))
    assert [effect.contrast.values for effect in found] == [("cbam", "none")]


def test_an_attention_of_its_own_is_known_by_its_name(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {"with": {"name": "attention_cnn"}, "without": {"name": "attention_cnn", "attention": "none"}}
    (effect,) = setting_effects(*evidence(tmp_path, study(tmp_path, drawn, models)))
    assert effect.contrast.values == ("spatial", "none")


def test_a_run_from_before_resolved_recipes_has_its_networks_default(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {"with": {"name": "attention_cnn"}, "without": {"name": "attention_cnn", "attention": "none"}}
    reports = study(tmp_path, drawn, models)
    recipe = tmp_path / "with-s0" / "recipe.toml"
    recipe.write_text(to_toml(load_recipe(recipe).with_defaults({})))
    (effect,) = setting_effects(*evidence(tmp_path, reports))
    assert effect.contrast.values == ("default", "none")


def crossed() -> dict[str, dict[str, Any]]:
    return {
        "both": {"weights": "imagenet", "attention": "cbam", "skill": 4.0},
        "imagenet": {"weights": "imagenet", "attention": "none", "skill": 4.0},
        "cbam": {"weights": "scratch", "attention": "cbam"},
        "neither": {"weights": "scratch", "attention": "none"},
    }


def test_what_is_off_is_what_others_are_put_against(tmp_path: Path, drawn: FaceSamples) -> None:
    taught = {"teachers": ["base.ckpt", "more.ckpt"], "teacher_weight": 0.7}
    training = {"a": taught, "b": {"precise_norm": True}, "c": {"label_smoothing": 0.1}, "plain": {}}
    models = {name: {"name": "attention_cnn", "training": settings} for name, settings in training.items()}
    found = setting_effects(*evidence(tmp_path, study(tmp_path, drawn, models)))
    assert {(*effect.contrast.keys, *effect.contrast.values) for effect in found} == {
        ("training.teachers", "2, weight 0.7", "none"),
        ("training.precise_norm", True, False),
        ("training.label_smoothing", 0.1, 0.0),
    }


def test_four_rows_give_main_effects_and_their_interaction(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {name: {"name": "timm:resnet18", **model} for name, model in crossed().items()}
    rows, entries = evidence(tmp_path, study(tmp_path, drawn, models, seeds=(0, 1, 2)))
    found = setting_effects(rows, entries)
    both, imagenet, cbam, neither = (row.accuracy.mean for row in rows)
    (weights,) = averaged(found, over="model.attention")
    assert weights.contrast.values == ("imagenet", "scratch")
    assert weights.effect.difference == pytest.approx((both + imagenet - cbam - neither) / 2)
    assert weights.effect.seeds == 3
    assert weights.is_shown
    (attention,) = averaged(found, over="model.weights")
    assert attention.contrast.values == ("cbam", "none")
    assert attention.effect.difference == pytest.approx((both + cbam - imagenet - neither) / 2)
    (together,) = (effect for effect in found if effect.contrast.is_interaction)
    assert together.effect.difference == pytest.approx(both - imagenet - cbam + neither)
    assert not together.is_shown
    of_attention = [effect.contrast for effect in found if effect.contrast.keys == ("model.attention",)]
    at_each = [contrast.fixed for contrast in of_attention if contrast.averaged_over is None]
    assert at_each == [(("model.weights", "imagenet"),), (("model.weights", "scratch"),)]
    # Main effects, and each setting's effect at both values of the other.
    assert len(found) == 7


def averaged(found: list[SettingEffect], over: str) -> list[SettingEffect]:
    return [effect for effect in found if effect.contrast.averaged_over == over]


def test_one_training_each_shows_something_of_these_files_only(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {name: {"name": "timm:resnet18", **model} for name, model in crossed().items() if name != "both"}
    found = setting_effects(*evidence(tmp_path, study(tmp_path, drawn, models)))
    assert {effect.contrast.keys: (effect.is_shown, effect.effect.seeds) for effect in found} == {
        ("model.weights",): (True, 1),
        ("model.attention",): (False, 1),
    }


def test_the_published_questions_are_answered_by_what_fits_them_best(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {name: {"name": "timm:resnet18", **model} for name, model in crossed().items()}
    reports = study(tmp_path, drawn, models, seeds=(0, 1))
    rows, entries = evidence(tmp_path, reports)
    effects = setting_effects(rows, entries)
    found = answers(rows, effects)
    assert found is not None
    # The averages alone: what they are made of stands in the table.
    assert list(found.by_setting["model.attention"]) == averaged(effects, over="model.weights")
    assert list(found.by_setting["model.weights"]) == averaged(effects, over="model.attention")
    assert [effect.contrast.keys for effect in found.together] == [("model.attention", "model.weights")]
    assert list(found.stand_ins) == []  # drawn faces stand in for nothing
    page = read_page(write_study_page(tmp_path, reports))
    for effect in effects:
        points = f"{100 * effect.effect.difference:+.1f}"
        assert any("model." in row[0] and points in row for row in page.rows)
    assert all(f"{100 * effect.effect.difference:+.1f} points" in page.text for effect in found.together)


def test_networks_that_stand_in_for_the_published_one_are_named(tmp_path: Path, drawn: FaceSamples) -> None:
    reports = study(tmp_path, drawn, attention(plain="none", cbam="cbam"))
    effects = setting_effects(*evidence(tmp_path, reports))

    def stand_ins(**changes: str) -> list[tuple[str, int | None]]:
        changed = [dataclasses.replace(report, **changes) for report in reports]  # type: ignore[arg-type]
        found = answers(compare(tmp_path, changed), effects)
        assert found is not None
        return list(found.stand_ins)

    assert stand_ins(data="fer2013", model="compact_resnet") == [("compact_resnet", 48)]
    assert stand_ins(data="fer2013", model="resnet50") == []
    assert stand_ins(data="synthetic", model="compact_resnet") == []
    changed = [dataclasses.replace(report, data="fer2013", model="compact_resnet") for report in reports]
    assert "compact_resnet at 48 px stands" in plain(read_page(write_study_page(tmp_path, changed)).text)


def test_what_cannot_be_said_is_not(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {"cnn": {"name": "attention_cnn"}, "resnet": {"name": "compact_resnet"}}
    reports = study(tmp_path, drawn, models)
    found = answers(*(lambda rows, entries: (rows, setting_effects(rows, entries)))(*evidence(tmp_path, reports)))
    assert found is not None
    assert not any(found.by_setting.values())
    assert "points" in plain(read_page(write_study_page(tmp_path, reports)).text)
    for path in tmp_path.glob("*/predictions/*.npz"):
        path.unlink()
    assert entries_of(compare(tmp_path, reports)) is None
    page = read_page(write_study_page(tmp_path, reports))
    assert not any("adjusted p" in row for row in page.rows)


def test_an_answer_that_is_missing_names_what_else_differs(tmp_path: Path, drawn: FaceSamples) -> None:
    models: dict[str, dict[str, Any]] = {
        "plain": {"name": "compact_resnet", "attention": "none"},
        "far": {"name": "attention_cnn"},
        "cbam": {"name": "compact_resnet", "attention": "cbam", "training": {"epochs": 7}},
    }
    reports = study(tmp_path, drawn, models)
    rows, entries = evidence(tmp_path, reports)
    found = answers(rows, setting_effects(rows, entries))
    assert found is not None
    nearest = found.nearest["model.attention"]
    assert nearest is not None
    assert nearest.titles == ("plain", "cbam")
    assert list(nearest.others) == ["training.epochs"]
    assert nearest.others["training.epochs"][1] == 7
    assert found.nearest["model.weights"] is None  # all begin from scratch
    text = plain(read_page(write_study_page(tmp_path, reports)).text)
    assert "plain and cbam differ also in training.epochs (" in text
    assert "plain and cbam differ also in training.epochs (" in " ".join(conclusion_sentences(rows))


def test_two_kinds_of_attention_do_not_show_whether_attention_helps(tmp_path: Path, drawn: FaceSamples) -> None:
    reports = study(tmp_path, drawn, attention(se="se", cbam="cbam"))
    rows, entries = evidence(tmp_path, reports)
    found = answers(rows, setting_effects(rows, entries))
    assert found is not None
    assert found.by_setting["model.attention"] == []
    assert found.nearest["model.attention"] == NearPair(("se", "cbam"), {})
    assert "(se, cbam) none is without it" in plain(read_page(write_study_page(tmp_path, reports)).text)


def test_the_chance_of_pictures_in_a_sum_of_four_files_covers_the_truth() -> None:
    generator, truth, inside, wrong = np.random.default_rng(0), 0.02, 0, 0
    chances = np.array([0.66, 0.62, 0.60, 0.58])  # interaction 0.02
    for trial in range(300):
        correct = (generator.random((4, 600)) < chances[:, None]).astype(float)
        effect = picture_effect(correct[0] - correct[1] - correct[2] + correct[3], replicates=1000, seed=trial)
        inside += effect.interval[0] <= truth <= effect.interval[1]
        equal = (generator.random((4, 600)) < 0.6).astype(float)
        null = picture_effect(equal[0] - equal[1] - equal[2] + equal[3], replicates=1000, seed=trial)
        wrong += null.p_value < 0.05
    assert 0.92 <= inside / 300 <= 0.98
    assert wrong / 300 <= 0.08
