"""Explanations as JSON values and as sentences, for pages, files and terminals alike."""

from typing import Any

from mien.emotions import EMOTIONS
from mien.evaluation.explain import AVERAGED
from mien.evaluation.explanation import (
    ExplainedFace,
    ExplainedPicture,
    ExplainedSplit,
    Explanation,
    Findings,
    Pointing,
)
from mien.evaluation.faithfulness import RANDOM_MAPS, SIMILAR, Curve
from mien.evaluation.places import BANDS, Share, band_shares
from mien.evaluation.wording import data_title, interval, percent, plural, split_plural
from mien.face.result import shown_path

TOLD = 2
"""Attention modules, at most, of which words are made: those nearest to the answer. Tables have all."""
ALIKE = 0.8
"""Rank correlation between the maps of different faces from which on they say little about the single face."""


def explanation_rows(explanation: Explanation) -> dict[str, Any]:
    """The content of ``explain.json``; rates are fractions, intervals ``[low, high]``, squares in pixels."""
    recipe, split = explanation.recipe, explanation.split
    rows: dict[str, Any] = {
        "recipe": recipe.name,
        "model": recipe.model.name,
        "seed": recipe.seed,
        "input_size": recipe.model.input_size,
        "bands": {name: list(band) for name, band in BANDS.items()},
        "methods": [_method_row(found) for found in explanation.findings],
    }
    if split is None:
        return rows | {"pictures": [_picture_row(picture) for picture in explanation.pictures]}
    return rows | {
        "data": split.data,
        "split": split.split.value,
        "n": split.n,
        "right": split.right,
        "pointing_game": None if split.pointing is None else _pointing_row(split.pointing),
    }


def answer_words(explanation: Explanation) -> list[str]:
    """What was found, in paragraphs, without the verdicts on methods that fail."""
    findings, split = explanation.findings, explanation.split
    if not findings:
        return ["No face was found." if split is None else "No face is rightly named, so there is nothing to average."]
    grad_cam, attention = findings[0], findings[1:]
    said = []
    if not grad_cam.checks.failures:
        said = [*([_emotion_words(grad_cam)] if split is not None else []), verdict_words(grad_cam)]
    said += [_places_words(found) for found in (grad_cam, *attention[-TOLD:])]
    if split is not None:
        said += [_alike_words(grad_cam), *_split_words(split)]
    return [words for words in said if words]


def verdict_words(found: Findings) -> str:
    """What a method's maps are worth, in a sentence; the first word after its title is ``passes`` or ``fails``."""
    checks = found.checks
    faces = plural(checks.n, "face")
    if not checks.failures:
        return (
            f"{found.method.title} passes its checks on {faces}: random weights give other maps (rank correlation"
            f" {checks.similarity:z.2f}), and pixels that are removed or inserted in its order change the emotion's"
            f" probability faster than in any of {RANDOM_MAPS} random orders."
        )
    reasons = {
        "randomised weights": f"random weights give much the same maps (rank correlation {checks.similarity:z.2f})",
        "deletion": f"pixels removed in its order do not lower the probability {_faster(checks.deletion)}",
        "insertion": f"pixels inserted in its order do not raise the probability {_faster(checks.insertion)}",
    }
    said = "; ".join(reasons[name] for name in checks.failures)
    return f"{found.method.title} fails its checks on {faces}: {said}. Its maps are not shown to explain these answers."


def face_shares(face: ExplainedFace) -> dict[str, dict[str, float]]:
    """Emotion -> band -> how much of Grad-CAM's map lies in it."""
    of_bands = {name: band_shares(face.maps, band).tolist() for name, band in BANDS.items()}  # (7,) each
    return {
        emotion.value: {name: shares[at] for name, shares in of_bands.items()} for at, emotion in enumerate(EMOTIONS)
    }


def _places_words(found: Findings) -> str:
    """Whether the maps lie on eyes and mouth, in sentences."""
    said = [
        f"{percent(share.value, 0)} of its maps lie in the band of the {name}, {_lean_words(share)}"
        f" ({percent(share.area, 0)} of the face; {percent(found.untrained[name].value, 0)} before any training)"
        for name, share in found.shares.items()
    ]
    return f"{found.method.title}: {', and '.join(said)}."


def _alike_words(found: Findings) -> str:
    """That single maps say little, where they do."""
    if found.alike is None or found.alike < ALIKE:
        return ""
    return (
        f"{found.method.title}'s maps of different faces are much alike (rank correlation {found.alike:.2f}): read them"
        " as a statement about faces, not about one face."
    )


def _emotion_words(found: Findings) -> str:
    """Of which emotions the maps lie most and least on eyes and mouth; nothing of a single emotion."""
    if len(found.averages) < 2:
        return ""
    said = []
    for name in BANDS:
        shares = {average.emotion.value: average.shares[name].value for average in found.averages}
        most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
        said.append(
            f"on the {name} most for {most} ({percent(shares[most], 0)} of the maps) and least for {least}"
            f" ({percent(shares[least], 0)})"
        )
    return f"{found.method.title} lies {', '.join(said)}."


def _split_words(split: ExplainedSplit) -> list[str]:
    """How often maps point at what is drawn, where that is known, and whose maps were averaged."""
    faces = (
        f"{split.right:,} of {split.n:,} {split_plural(split.split, short=True)} of {data_title(split.data)} are"
        f" rightly named; the averages are over these, of each emotion up to {AVERAGED}."
    )
    if split.pointing is None:
        return [faces]
    found = split.pointing
    return [
        f"On {plural(found.n, 'drawn face')} with an expression Grad-CAM points at brows or mouth in"
        f" {percent(found.hits)} ({interval(found.interval)}); a random place would in {percent(found.chance)}.",
        faces,
    ]


def _faster(curve: Curve) -> str:
    return f"reliably faster than in random orders (p = {curve.p_value:.2f})"


def _lean_words(share: Share) -> str:
    if share.interval is None:
        return "for this one face"
    return {"more": "more than its area", "less": "less than its area", "even": "about as much as its area"}[share.lean]


def _method_row(found: Findings) -> dict[str, Any]:
    checks = found.checks
    return {
        "name": found.method.name,
        "layer": found.method.layer,
        "map_side": found.method.side,
        "verdict": checks.verdict,
        "failed": list(checks.failures),
        "checks": {
            "n": checks.n,
            "randomised_weights": {"similarity": checks.similarity, "fails_from": SIMILAR},
            "deletion": _curve_row(checks.deletion),
            "insertion": _curve_row(checks.insertion),
        },
        "similarity_between_faces": found.alike,
        "bands": {
            name: {**_share_row(share), "untrained": found.untrained[name].value}
            for name, share in found.shares.items()
        },
        "emotions": {
            average.emotion.value: {
                "n": average.n,
                "bands": {name: _share_row(share) for name, share in average.shares.items()},
            }
            for average in found.averages
        },
    }


def _curve_row(curve: Curve) -> dict[str, Any]:
    areas = curve.random_areas
    return {
        "area": curve.area,
        "random": {"mean": float(areas.mean()), "low": float(areas.min()), "high": float(areas.max())},
        "p_value": curve.p_value,
        "passes": curve.passes,
    }


def _share_row(share: Share) -> dict[str, Any]:
    return {
        "share": share.value,
        "ci95": None if share.interval is None else list(share.interval),
        "area": share.area,
    }


def _pointing_row(found: Pointing) -> dict[str, Any]:
    return {"n": found.n, "hits": found.hits, "ci95": list(found.interval), "chance": found.chance}


def _picture_row(picture: ExplainedPicture) -> dict[str, Any]:
    return {
        "path": shown_path(picture.path),
        "width": picture.width,
        "height": picture.height,
        "faces": [_face_row(face) for face in picture.faces],
        "error": picture.error,
    }


def _face_row(face: ExplainedFace) -> dict[str, Any]:
    return {
        "square": None if face.square is None else face.square._asdict(),
        "emotion": face.emotion.value,
        "probabilities": {
            emotion.value: float(value) for emotion, value in zip(EMOTIONS, face.probabilities, strict=True)
        },
        "bands": face_shares(face),
    }
