"""An ONNX file over a split -> predictions and figures; without torch, as those run it who have no laboratory."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.data import Protocol, Split
from mien.errors import DataError, ModelError
from mien.evaluation.predict import Predictions, face_views, mean_of, uncalibrated
from mien.evaluation.results import about_data, check_free, evaluate_split, note_looks, store
from mien.evaluation.robustness import robustness_card, store_card
from mien.face.network import EXPORT_REMEDY, EmotionNetwork, model_card, shipped_models
from mien.runs import Run

if TYPE_CHECKING:
    from mien.data import FaceSamples


def predict_with_network(
    network: "EmotionNetwork", samples: "FaceSamples", positions: NDArray[np.int64], *, views: int = 1
) -> tuple[Predictions, NDArray[np.float32] | None]:
    """Calibrated predictions of the faces at ``positions`` ``(M,)`` and, where the file says how, uncalibrated ones.

    Raises:
        DataError: the file takes faces of another size.
        ModelError: the file's temperature is none.
    """
    check_size(network, samples)
    temperature = temperature_of(network)
    of_views = [network.probabilities(view) for view in face_views(samples.images[positions], views)]
    predictions = Predictions(samples.rows[positions], samples.labels[positions], mean_of(of_views))
    if temperature is None:
        return predictions, None
    return predictions, mean_of([uncalibrated(view, temperature) for view in of_views])


def evaluate_network(
    network: EmotionNetwork,
    samples: "FaceSamples",
    split: Split,
    *,
    views: int = 1,
    out: Path | None = None,
    command: str = "",
    votes: NDArray[np.uint8] | None = None,
) -> dict[str, dict[str, Any]]:
    """Predict a split with an ONNX file, under the protocol that chose its weights (``contest`` if it names none).

    Args:
        network: the file.
        samples: the data set that it was trained on, or another.
        split: which one.
        views: at test time, 1, 2 or 10.
        out: folder for predictions, report and ``looks.jsonl``; without, nothing is written.
        command: the command line, for ``looks.jsonl``.
        votes: uint8 ``(N, 10)``, FER+'s votes on each of ``samples``, from ``data.votes_on``.

    Returns:
        name in ``results`` -> figures.

    Raises:
        ModelError: the file names a protocol that there is not, or a temperature that is none.
        RunExistsError: ``out`` holds figures of something else.
        DataError: the data do not have this split, or their faces are of another size.
    """
    protocol, validation_rows = validation_of(network)
    report = network_report(network, samples, protocol)
    if out is not None:
        check_free(Run(out), report)
    predictions, results = evaluate_split(
        lambda positions: predict_with_network(network, samples, positions, views=views),
        samples,
        split,
        samples.split(split, protocol, validation_rows),
        views=views,
        votes=votes,
    )
    if out is not None:
        note_looks(Run(out), predictions, command, network.path)
        store(Run(out), report, predictions, results)
    return results


def network_robustness(network: EmotionNetwork, samples: "FaceSamples", *, out: Path | None = None) -> dict[str, Any]:
    """How an ONNX file's accuracy on validation falls as pictures get worse; also written into ``out``, if given.

    Raises:
        DataError: the data have no validation split, or their faces are of another size.
    """
    check_size(network, samples)
    positions = samples.split(Split.VALIDATION, *validation_of(network))
    card = robustness_card(network.probabilities, samples.images[positions], samples.labels[positions])
    if out is not None:
        store_card(out, card)
    return card


def check_size(network: EmotionNetwork, samples: "FaceSamples") -> None:
    """Refuse faces of another size than the network's.

    Raises:
        DataError: they are.
    """
    if samples.size != network.size:
        raise DataError(
            f"{network.path} takes faces of {network.size} x {network.size} pixels, these data have"
            f" {samples.size} x {samples.size}; give the data that it was made for"
        )


def network_report(network: EmotionNetwork, samples: "FaceSamples", protocol: Protocol) -> dict[str, Any]:
    """What ``report.json`` says of a file besides its results; also what the card of a network in the package knows."""
    content = network.path.read_bytes()
    temperature = temperature_of(network)
    card = model_card(network.path) if network.path.resolve() in shipped_models().values() else {}
    report = {
        **{key: value for key, value in card.items() if key != "results"},
        **{key: value for key, value in sorted(network.metadata.items()) if key != "labels"},
        **({} if temperature is None else {"temperature": temperature}),
        "file": network.path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "protocol": protocol.value,
    }
    return about_data(report, samples)


def temperature_of(network: EmotionNetwork) -> float | None:
    """By which its logits are divided, if the file names it."""
    written = network.metadata.get("temperature")
    if written is None:
        return None
    try:
        temperature = float(written)
    except ValueError:
        temperature = 0.0
    if not 0 < temperature < float("inf"):
        raise ModelError(f"{network.path}: expected a temperature above 0, came {written!r}; {EXPORT_REMEDY}")
    return temperature


def validation_of(network: EmotionNetwork) -> tuple[Protocol, int | None]:
    """The protocol and the rows held out, as ``mien export`` writes them into a file."""
    protocol, rows = network.metadata.get("protocol", Protocol.CONTEST), network.metadata.get("validation_rows")
    try:
        return Protocol(protocol), None if rows is None else int(rows)
    except ValueError as error:
        raise ModelError(
            f"{network.path}: expected a protocol ({', '.join(Protocol)}) and a number of validation rows,"
            f" came {protocol!r} and {rows!r}; {EXPORT_REMEDY}"
        ) from error
