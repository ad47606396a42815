"""What a study may say of single settings: which rows are put against each other, and the words for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import small_recipe
from tests.fake_runs import fake_run, plain, read_page

from mien.data import FaceSamples
from mien.evaluation.compare import Entry
from mien.evaluation.significance import picture_effect
from mien.recipe import to_toml
from mien.study.comparison import ComparedRow, compare
from mien.study.effects import entries_of, setting_effects
from mien.study.page import write_index
from mien.study.published import PUBLISHED

Seeds = tuple[int, ...]


def study(folder: Path, samples: FaceSamples, models: dict[str, dict[str, Any]], seeds: Seeds = (0,)) -> dict[str, Any]:
    """Runs whose recipes differ in ``[model]``, or in ``training``; ``skill`` says how good they are."""
    reports = []
    for number, (name, model) in enumerate(models.items()):
        skill, training = model.pop("skill", 1.0), model.pop("training", {})
        for seed in seeds:
            run = fake_run(
                folder / f"{name}-s{seed}", samples, skill=skill, recipe=name, seed=100 * number + seed,
                initialization=model.get("weights", "scratch"),
            )  # fmt: skip
            report = {**run.report(), "seed": seed}
            run.write_report(report)
            run.recipe_path.write_text(to_toml(small_recipe(name=name, seed=seed, model=model, training=training)))
            reports.append(report)
    return {"published": PUBLISHED, "rows": reports}


def evidence(folder: Path, content: dict[str, Any]) -> tuple[list[ComparedRow], dict[str, Entry]]:
    rows = compare(folder, content)
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
    assert [(effect.keys, effect.words, effect.within) for effect in found] == [
        (("model.attention",), "cbam against none", "compact_resnet"),
        (("model.attention",), "se against none", "compact_resnet"),
    ]
    accuracy = {row.title: row.accuracy.mean for row in rows}
    assert found[0].effect.difference == pytest.approx(accuracy["cbam"] - accuracy["plain"])
    assert all(effect.adjusted >= effect.effect.p_value for effect in found)
    assert all(effect.effect.seeds == 1 for effect in found)


def test_a_row_that_was_trained_again_is_not_put_against_itself(tmp_path: Path, drawn: FaceSamples) -> None:
    models = attention(cbam="cbam", plain="none", again="none")
    found = setting_effects(*evidence(tmp_path, study(tmp_path, drawn, models)))
    assert [effect.words for effect in found] == ["cbam against none"]


def test_an_attention_of_its_own_is_known_by_its_name(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {"with": {"name": "attention_cnn"}, "without": {"name": "attention_cnn", "attention": "none"}}
    (effect,) = setting_effects(*evidence(tmp_path, study(tmp_path, drawn, models)))
    assert effect.words == "spatial against none"


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
    assert {(*effect.keys, effect.words) for effect in found} == {
        ("training.teachers", "2\N{NO-BREAK SPACE}teachers, share 0.7 against none"),
        ("training.precise_norm", "True against False"),
        ("training.label_smoothing", "0.1 against 0.0"),
    }


def test_four_rows_give_main_effects_and_their_interaction(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {name: {"name": "timm:resnet18", **model} for name, model in crossed().items()}
    rows, entries = evidence(tmp_path, study(tmp_path, drawn, models, seeds=(0, 1, 2)))
    found = {(effect.keys, effect.within): effect for effect in setting_effects(rows, entries)}
    both, imagenet, cbam, neither = (row.accuracy.mean for row in rows)
    weights = found[("model.weights",), "timm:resnet18, averaged over model.attention"]
    assert weights.words == "imagenet against scratch"
    assert weights.effect.difference == pytest.approx((both + imagenet - cbam - neither) / 2)
    assert weights.effect.seeds == 3
    assert weights.is_shown
    assert weights.verdict == "yes"
    attention = found[("model.attention",), "timm:resnet18, averaged over model.weights"]
    assert attention.words == "cbam against none"
    assert attention.effect.difference == pytest.approx((both + cbam - imagenet - neither) / 2)
    (together,) = (effect for (keys, _), effect in found.items() if len(keys) == 2)
    assert together.effect.difference == pytest.approx(both - imagenet - cbam + neither)
    assert together.verdict == "no"
    at_each = [within for keys, within in found if keys == ("model.attention",)]
    assert at_each[1:] == ["timm:resnet18, model.weights imagenet", "timm:resnet18, model.weights scratch"]
    # Main effects, and each setting's effect at both values of the other.
    assert len(found) == len(setting_effects(rows, entries)) == 7


def test_one_training_each_shows_something_of_these_files_only(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {name: {"name": "timm:resnet18", **model} for name, model in crossed().items() if name != "both"}
    found = setting_effects(*evidence(tmp_path, study(tmp_path, drawn, models)))
    assert {effect.keys: effect.verdict for effect in found} == {
        ("model.weights",): "these files only",
        ("model.attention",): "no",
    }


def test_the_page_answers_the_published_questions(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {name: {"name": "timm:resnet18", **model} for name, model in crossed().items()}
    page = read_page(write_index(tmp_path, study(tmp_path, drawn, models, seeds=(0, 1))))
    assert "Does attention help? cbam against none (timm:resnet18, averaged over model.weights):" in page.text
    assert "Does starting from pretrained weights help? imagenet against scratch" in page.text
    answer = page.text.split("Do they help together?")[0].split("Does attention help?")[1]
    assert answer.count("averaged over") == answer.count("against") == 2  # what it is made of stands in the table
    assert "two seeds: shown" in page.text
    assert "Do they help together? cbam and imagenet together, beyond the sum of both" in page.text
    assert "no effect shown" in page.text
    words = "cbam and imagenet together, beyond the sum of both"
    assert any(row[0].split()[::2] == ["model.attention", "model.weights"] and row[1] == words for row in page.rows)


def test_the_page_says_what_stands_in_for_the_published_network(tmp_path: Path, drawn: FaceSamples) -> None:
    content = study(tmp_path, drawn, attention(plain="none", cbam="cbam"))

    def text(**changes: str) -> str:
        rows = [{**report, **changes} for report in content["rows"]]
        return plain(read_page(write_index(tmp_path, {**content, "rows": rows})).text)

    words = (
        "asks this of a ResNet-50 that starts from ImageNet weights, at 224 px; compact_resnet at 48 px stands in for"
    )
    assert words in text(data="fer2013", model="compact_resnet")
    assert "stands in for" not in text(data="fer2013", model="resnet50")
    assert "stands in for" not in text(data="synthetic", model="compact_resnet")


def test_the_page_says_what_cannot_be_said(tmp_path: Path, drawn: FaceSamples) -> None:
    models = {"cnn": {"name": "attention_cnn"}, "resnet": {"name": "compact_resnet"}}
    page = read_page(write_index(tmp_path / "stored", study(tmp_path / "stored", drawn, models)))
    assert "Whether attention helps cannot be said: no two of these rows differ in that alone." in page.text
    assert "one file each:" in plain(page.text)
    content = study(tmp_path / "lost", drawn, models)
    for path in (tmp_path / "lost").glob("*/predictions/*.npz"):
        path.unlink()
    page = read_page(write_index(tmp_path / "lost", content))
    assert "so whether that is chance is not known" in page.text
    assert "What single settings changed" not in page.text


def test_the_chance_of_pictures_in_a_sum_of_four_files_covers_the_truth() -> None:
    generator, truth, inside, wrong = np.random.default_rng(0), 0.02, 0, 0
    chances = np.array([0.66, 0.62, 0.60, 0.58])  # interaction 0.02
    for trial in range(300):
        right = (generator.random((4, 600)) < chances[:, None]).astype(float)
        effect = picture_effect(right[0] - right[1] - right[2] + right[3], replicates=1000, seed=trial)
        inside += effect.interval[0] <= truth <= effect.interval[1]
        equal = (generator.random((4, 600)) < 0.6).astype(float)
        null = picture_effect(equal[0] - equal[1] - equal[2] + equal[3], replicates=1000, seed=trial)
        wrong += null.p_value < 0.05
    assert 0.92 <= inside / 300 <= 0.98
    assert wrong / 300 <= 0.08
