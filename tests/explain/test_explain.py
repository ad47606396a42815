"""Explanations: where a trained network's maps lie, what fails the checks, and what stands on the page."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr
from tests.conftest import small_recipe
from tests.drawn_network import SETTINGS, LearntFaces, learn_faces
from tests.fake_runs import read_page

from mien.data import FaceSamples, Split
from mien.emotions import EMOTIONS
from mien.errors import ModelError
from mien.evaluation.predictor import predict_logits, probabilities_of
from mien.explain import explain
from mien.explain.explain import explain_pictures, explain_split
from mien.explain.faithfulness import (
    SIMILAR,
    STEPS,
    Checks,
    Curve,
    check,
    randomised,
    removal_curves,
    similarity,
)
from mien.explain.regions import BANDS, band_area, band_fractions, fraction_in, pointing_chance, pointing_game
from mien.explain.saliency import Method, as_map, attention_map, grad_cam, map_layer, methods_of
from mien.face.detect import create_detector
from mien.models import MODELS, FaceClassifier, attention_maps, create_classifier
from mien.models.attention_blocks import SpatialAttention
from mien.recipe import ModelSettings, load_recipe, to_toml
from mien.report.explain_page import explanation_rows, write_explain_page
from mien.runs import Run
from mien.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.study import load_suite

NETWORKS = {
    **{f"MODELS[{name}]": ModelSettings(name=name) for name in MODELS},
    **{row.name: load_recipe(row.recipe).model for row in load_suite("controlled").rows},
    **{
        name: ModelSettings(name=f"timm:{name}", input_size=128, normalization="unit")
        for name in ("mobilenetv3_small_050", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224")
    },
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for a busy core cost such small batches ten times the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "MAX_CHECKED", 7)


@pytest.fixture(scope="module")
def learnt() -> LearntFaces:
    return learn_faces()


@pytest.fixture(scope="module")
def checks(learnt: LearntFaces) -> dict[str, Checks]:
    """Of Grad-CAM, of its opposite, and of an edge detector, on 14 faces."""
    methods = [
        *methods_of(learnt.classifier),
        Method("opposite", "The opposite", "", 12, lambda *given: 1 - grad_cam(*given)),
        Method("edges", "An edge detector", "", 12, lambda _network, faces, _classes: edges(faces)),
    ]
    return check(
        methods,
        learnt.classifier,
        randomised(SETTINGS),
        learnt.images[:14],
        learnt.labels[:14],
        lambda faces: probabilities_of(predict_logits(learnt.classifier, faces)),
    )


def edges(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Adebayo et al.'s own example of what looks like an explanation."""
    return np.stack([np.abs(cv2.Laplacian(face, cv2.CV_32F)) for face in faces])


def untrained_run(path: Path, **sections: object) -> Run:
    """A run with the weights of a seed, as if they had been trained."""
    run, recipe = Run(path), small_recipe(**sections)
    torch.manual_seed(3)
    save_checkpoint(run.best_checkpoint, Checkpoint(recipe, create_classifier(recipe.model).state_dict()))
    run.recipe_path.write_text(to_toml(recipe))
    return run


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_contract(name: str) -> None:
    """A map of at least 4 x 4 places, as large as the face, and nothing left behind in the network."""
    torch.manual_seed(0)
    classifier = create_classifier(NETWORKS[name])
    faces = np.random.default_rng(0).integers(0, 256, (2, 48, 48), dtype=np.uint8)
    before = predict_logits(classifier, faces)
    found = methods_of(classifier)
    assert found[0].name == "grad_cam"
    assert 4 <= found[0].side <= classifier.input_size // 4
    of_classes = np.stack([grad_cam(classifier, faces, np.full(2, label)) for label in (0, 3, 4)])
    assert of_classes.shape == (3, 2, 48, 48)
    assert of_classes.min() >= 0
    assert of_classes.max() == pytest.approx(1, abs=1e-3)
    assert len(np.unique(of_classes.reshape(3, -1), axis=0)) > 1  # emotion by emotion
    with attention_maps(classifier) as weights, torch.no_grad():
        classifier(torch.zeros(1, 1, classifier.input_size, classifier.input_size))
    assert len(found) - 1 == sum(each[0, 0].numel() > 1 for each in weights.values())
    for method in found[1:]:
        weights = method.explain(classifier, faces, np.zeros(2, int))
        assert weights.shape == (2, 48, 48)
        assert 0 < weights.min() <= weights.max() < 1
    assert not any(module._forward_hooks or module._backward_hooks for module in classifier.modules())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert np.array_equal(predict_logits(classifier, faces), before)


def test_grad_cam_is_class_activation_mapping_where_a_mean_leads_to_the_classifier(learnt: LearntFaces) -> None:
    """Then the two are the same up to scale (Selvaraju et al. 2017, section 3; Zhou et al. 2016)."""
    classifier, faces = learnt.classifier, learnt.images[:4]
    network = classifier.model
    with torch.no_grad():
        x = (classifier.prepare(torch.from_numpy(faces)[:, None]) - classifier.mean) / classifier.std
        features = network.stages(network.stem(x))  # type: ignore[operator]
        scores = torch.einsum("nchw,c->nhw", features, network.classifier.weight[3]).relu().numpy()  # type: ignore
    small = (scores - scores.min((1, 2), keepdims=True)) / np.ptp(scores, axis=(1, 2), keepdims=True)
    large = np.stack([cv2.resize(each, (48, 48)) for each in small])
    np.testing.assert_allclose(
        grad_cam(classifier, faces, np.full(4, 3)), large / large.max((1, 2), keepdims=True), atol=2e-4
    )


def test_channels_are_found_by_the_two_equal_sides() -> None:
    maps = torch.arange(2 * 5 * 3 * 3).reshape(2, 5, 3, 3)
    tokens = torch.cat([torch.zeros(2, 1, 5), maps.flatten(2).transpose(1, 2)], dim=1)
    for output, prefix in ((maps, 0), (maps.permute(0, 2, 3, 1), 0), (tokens, 1)):
        found = as_map(output, prefix)
        assert found is not None
        assert torch.equal(found, maps)
    assert as_map(tokens) is None
    assert as_map(torch.zeros(2, 7)) is None
    assert as_map((maps,)) is None


def test_a_network_without_a_map_of_the_face_is_refused() -> None:
    classifier = create_classifier(
        ModelSettings(name="timm:vit_tiny_patch16_224", normalization="unit")
    )  # 3 x 3 tokens
    with pytest.raises(ModelError, match=r"4 x 4 cells or more, got none.*input_size"):
        map_layer(classifier)


def test_attention_maps_are_the_gates_own_weights() -> None:
    classifier = create_classifier(ModelSettings(name="attention_cnn"))
    convolution = classifier.model.attention.conv  # type: ignore[union-attr]
    torch.nn.init.zeros_(convolution.weight)  # type: ignore[arg-type]
    torch.nn.init.constant_(convolution.bias, -1.0)  # type: ignore[arg-type]
    maps = attention_map(classifier, np.zeros((2, 48, 48), np.uint8), np.zeros(2, int), module="attention")
    np.testing.assert_allclose(maps, 1 / (1 + np.e), rtol=1e-6)


class PerChannel(SpatialAttention):
    """A block with a gate of its own: weights ``(N, C, H, W)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = self.gate(x)
        return x * weights


def test_a_new_attention_block_is_found_by_its_gate() -> None:
    classifier = create_classifier(ModelSettings(name="attention_cnn"))
    classifier.model.attention = PerChannel(1)
    faces = np.random.default_rng(0).integers(0, 256, (2, 48, 48), dtype=np.uint8)
    _, found = methods_of(classifier)
    assert found.name == "attention:attention"
    with attention_maps(classifier) as weights, torch.no_grad():
        classifier(classifier.prepare(torch.from_numpy(faces)[:, None]))
    (expected,) = weights.values()
    assert expected.shape[1] > 1
    maps = found.explain(classifier, faces, np.zeros(2, int))
    assert maps.mean() == pytest.approx(float(expected.mean()), abs=0.02)  # the mean over the channels, enlarged


def test_grad_cam_points_at_what_carries_the_expression_and_only_after_training(learnt: LearntFaces) -> None:
    assert learnt.accuracy > 0.6
    hits = pointing_game(grad_cam(learnt.classifier, learnt.images, learnt.labels), learnt.boxes).mean()
    assert hits > 0.8
    assert pointing_chance(learnt.boxes, 48) < 0.2
    for twin in randomised(SETTINGS):
        assert pointing_game(grad_cam(twin, learnt.images, learnt.labels), learnt.boxes).mean() < 0.3


def test_a_map_that_explains_passes_and_others_fail_where_they_should(checks: dict[str, Checks]) -> None:
    assert checks["grad_cam"].similarity < 0.3
    assert checks["grad_cam"].failures == ()
    assert checks["grad_cam"].verdict == "passes"
    assert checks["edges"].similarity == pytest.approx(1)  # whatever the weights
    assert "randomised weights" in checks["edges"].failures
    assert checks["edges"].verdict == "fails"
    assert set(checks["opposite"].failures) == {"deletion", "insertion"}
    assert checks["opposite"].deletion.p_value == checks["opposite"].insertion.p_value == 1


def test_likeness_is_spearmans(learnt: LearntFaces) -> None:
    one, other = edges(learnt.images[:5]), grad_cam(learnt.classifier, learnt.images[:5], learnt.labels[:5])
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(similarity(one, other), expected, rtol=1e-5)  # float32
    assert similarity(one, np.ones_like(one)).tolist() == [0] * 5


def test_random_weights_follow_the_seed_and_leave_the_callers_chance_alone() -> None:
    state = torch.get_rng_state()
    one, other, *_ = randomised(SETTINGS)
    again = randomised(SETTINGS, count=1)[0]
    assert torch.equal(torch.get_rng_state(), state)
    weight = "model.stem.0.weight"
    assert torch.equal(one.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], other.state_dict()[weight])


def test_removal_follows_the_order_of_the_map() -> None:
    """A network that sees the share of white pixels, which a perfect map names: the curves are straight lines."""
    faces = np.zeros((3, 16, 16), np.uint8)
    faces[:, :, :8] = 255

    def probability(shown: NDArray[np.uint8]) -> NDArray[np.float32]:
        white = (shown == 255).mean((1, 2))
        return np.stack([white, 1 - white], axis=1).astype(np.float32)

    perfect = (faces / 255).astype(np.float32)
    deletion, insertion = removal_curves([perfect, 1 - perfect], faces, np.zeros(3, int), probability)
    share = np.linspace(0, 1, STEPS + 1)
    np.testing.assert_allclose(deletion[0], np.maximum(0.5 - share, 0), atol=1e-6)
    np.testing.assert_allclose(deletion[1], np.minimum(0.5, 1 - share), atol=1e-6)
    assert deletion.shape == insertion.shape == (2, STEPS + 1)
    assert insertion[0, 0] < insertion[0, -1] == 0.5
    assert (np.diff(insertion[0]) > -1e-6).all()


def test_areas_and_p_values_count_as_they_say() -> None:
    line = np.linspace(1, 0, 9)
    random = np.stack([line + shift for shift in np.linspace(0.01, 0.19, 19)])
    falling, rising = Curve(line, random, rising=False), Curve(line, random, rising=True)
    assert falling.area == pytest.approx(0.5)
    assert (falling.p_value, falling.passes) == (pytest.approx(0.05), True)
    assert (rising.p_value, rising.passes) == (1, False)
    beaten_once = Curve(line, np.vstack([random[1:], line]), rising=False)
    assert (beaten_once.p_value, beaten_once.passes) == (pytest.approx(0.1), False)


def test_fractions_in_bands() -> None:
    size = 48
    maps = np.zeros((3, size, size), np.float32)
    maps[0, 15:17] = 2  # within the eyes
    maps[1, [15, 35]] = 1  # half in the eyes, half on the mouth
    np.testing.assert_allclose(band_fractions(maps, BANDS["eyes"]), [1, 0.5, band_area(BANDS["eyes"], size)])
    np.testing.assert_allclose(band_fractions(maps, BANDS["mouth"]), [0, 0.5, band_area(BANDS["mouth"], size)])
    assert band_area(BANDS["eyes"], size) == 11 / 48
    assert fraction_in(BANDS["eyes"], maps[:1]).interval is None
    everywhere = fraction_in(BANDS["mouth"], np.random.default_rng(0).random((200, size, size), dtype=np.float32))
    assert everywhere.interval is not None
    assert everywhere.interval[0] < everywhere.value < everywhere.interval[1]
    assert everywhere.lean == "even"
    assert fraction_in(BANDS["eyes"], maps[[0, 0, 1]]).lean == "more"
    assert fraction_in(BANDS["mouth"], maps[[0, 0, 0]]).lean == "less"


def test_pointing_at_boxes() -> None:
    maps = np.zeros((3, 50, 50), np.float32)
    maps[0, 10, 20] = maps[1, 30, 20] = 1  # the third points nowhere
    boxes = [np.tile([18.2, 8.2, 6.0, 6.0], (3, 1)), np.tile([18.2, 31.2, 6.0, 6.0], (3, 1))]
    assert pointing_game(maps, boxes).tolist() == [True, True, False]  # the second within the tolerance of 1.5 pixels
    assert pointing_game(maps, boxes[:1]).tolist() == [True, False, False]
    assert pointing_chance(boxes, 50) == pytest.approx(2 * 9 * 9 / 2500)


@pytest.fixture(scope="module")
def trained_run(learnt: LearntFaces, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("explained") / "run")
    recipe = small_recipe().model_copy(update={"model": SETTINGS})
    save_checkpoint(run.best_checkpoint, Checkpoint(recipe, learnt.classifier.state_dict()))
    return run


def classifier_of(run: Run) -> FaceClassifier:
    return load_checkpoint(run.best_checkpoint).classifier()


def shown(page: Path) -> Iterator[Image.Image]:
    for address in read_page(page).faces:
        yield Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_averages_of_a_split_and_their_page(trained_run: Run, drawn: FaceSamples, tmp_path: Path) -> None:
    explanation = explain_split(trained_run, drawn, Split.TRAINING)
    rows = explanation_rows(explanation)
    split = drawn.split(Split.TRAINING)
    labels, images = drawn.labels[split], drawn.images[split]
    predicted = predict_logits(classifier_of(trained_run), images)[0].argmax(1)
    assert (rows["n"], rows["right"]) == (len(split), int((predicted == labels).sum()))
    (method,) = rows["methods"]
    counts = {EMOTIONS[label].value: int(((predicted == labels) & (labels == label)).sum()) for label in range(7)}
    assert {name: found["n"] for name, found in method["emotions"].items()} == {k: n for k, n in counts.items() if n}
    assert method["verdict"] == ("fails" if method["failed"] else "passes")
    assert method["checks"]["randomised_weights"]["fails_from"] == SIMILAR
    assert rows["pointing_game"]["hits"] > rows["pointing_game"]["chance"]
    assert not (trained_run.path / "looks.jsonl").exists()

    path = write_explain_page(tmp_path, explanation)
    page = read_page(path)
    assert json.loads((tmp_path / "explain.json").read_text()) == json.loads(json.dumps(rows))
    assert "Drawn faces, not people" in page.text
    pointing = rows["pointing_game"]
    assert f"{100 * pointing['hits']:.1f} %" in page.text
    shown_rows = {row[0]: row for row in page.rows}
    for name, found in method["emotions"].items():
        faces = f"{found['n']} face{'s' * (found['n'] > 1)}"
        assert f"{100 * found['bands']['eyes']['share']:.1f} %" in shown_rows[f"{name}, {faces}"][2]
    checks = method["checks"]
    assert shown_rows["Grad-CAM"][-1] == method["verdict"]
    assert f"{checks['deletion']['area']:.3f}" in shown_rows["Grad-CAM"]
    means = [f"grad_cam_{name}.png" for name, n in counts.items() if n]
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == sorted([*means, "removal_grad_cam.svg"])
    assert len(page.faces) == 2 * len(means)  # and a single face of each
    assert all(picture.mode == "RGB" for picture in shown(path))


def test_without_pictures_no_face_is_shown(trained_run: Run, drawn: FaceSamples, tmp_path: Path) -> None:
    """The mean face of many stays; of 21 it would not be shown either."""
    explanation = explain_split(trained_run, drawn, Split.VALIDATION)
    assert explanation.split is not None
    assert explanation.split.n == 21
    path = write_explain_page(tmp_path, explanation, pictures=False)
    for picture in shown(path):
        assert picture.mode == "RGBA"
        assert (
            len(np.unique(np.asarray(picture)[..., :3].reshape(-1, 3), axis=0)) == 1
        )  # one colour, more or less opaque
    assert f"row {explanation.split.examples[0].row}" in read_page(path).text


def test_failing_maps_are_called_so_and_looks_are_noted(drawn: FaceSamples, tmp_path: Path) -> None:
    """A network that nobody trained, with an attention module."""
    run = untrained_run(tmp_path / "run")
    explanation = explain_split(run, drawn, Split.PRIVATE_TEST, command="mien explain")
    assert [json.loads(line)["split"] for line in (run.path / "looks.jsonl").read_text().splitlines()] == [
        "private_test"
    ]
    assert [found.method.name for found in explanation.findings] == ["grad_cam", "attention:attention"]
    failing = [found for found in explanation.findings if found.checks.failures]
    assert failing
    page = read_page(write_explain_page(tmp_path / "out", explanation))
    assert page.text.count("These maps fail.") == len(failing)
    verdicts = {row[0]: row[-1] for row in page.rows}  # the last table is that of the checks
    for found in explanation.findings:
        assert verdicts[found.method.title] == found.checks.verdict
    assert "Attention modules" in page.text
    assert (tmp_path / "out" / "figures" / "attention_attention.png").is_file()


def test_faces_of_pictures(trained_run: Run, drawn: FaceSamples, tmp_path: Path) -> None:
    picture, bad = tmp_path / "face.png", tmp_path / "bad.png"
    Image.fromarray(drawn.images[0]).resize((200, 200)).save(picture)
    bad.write_bytes(b"no picture")
    explanation = explain_pictures(trained_run, [str(picture), str(bad)], create_detector("none"))
    first, second = explanation.pictures
    (face,) = first.faces
    assert second.error is not None
    assert face.maps.shape == (7, 48, 48)
    np.testing.assert_array_equal(
        face.map,
        grad_cam(classifier_of(trained_run), face.face[None], np.array([face.probabilities.argmax()]))[0],
    )
    rows = explanation_rows(explanation)["pictures"]
    assert rows[0]["faces"][0]["square"] == {"x": 0, "y": 0, "width": 200, "height": 200}
    assert rows[0]["faces"][0]["bands"].keys() == {emotion.value for emotion in EMOTIONS}
    assert rows[1]["faces"] == []

    path = write_explain_page(tmp_path / "out", explanation)
    pictures = list(shown(path))
    assert [each.size for each in pictures] == [(200, 200)] + 7 * [(144, 144)]
    laid = np.asarray(pictures[0]).astype(int) - np.asarray(Image.open(picture).convert("RGB"))
    heat = cv2.resize(face.map, (200, 200))
    assert np.abs(laid)[heat == 0].max(initial=0) == 0
    assert np.abs(laid).sum(2)[heat > 0.9].min() > 0
    without = write_explain_page(tmp_path / "without", explanation, pictures=False)
    assert all(each.mode == "RGBA" for each in shown(without))
    assert [file.name for file in (tmp_path / "without" / "figures").iterdir()] == ["removal_grad_cam.svg"]


def test_no_face_is_no_error(trained_run: Run, tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    Image.new("L", (100, 100), 128).save(grey)
    explanation = explain_pictures(trained_run, [str(grey)], create_detector("libfacedetection"))
    assert explanation.findings == ()
    page = read_page(write_explain_page(tmp_path / "out", explanation))
    assert (page.faces, page.plots, page.rows) == ([], [], [])
    assert "No face was found." in page.text
