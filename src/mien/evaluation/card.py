"""A run directory -> ``model_card.md``: what a network is for, what it was measured on, and what is not known of it.

Source: Mitchell et al. 2019, arXiv:1810.03993, for what a card says; Hugging Face, hub-docs/modelcard.md, for the
header, of which their hub makes filters and a table of results.
"""

from collections import Counter
from pathlib import Path

from mien.emotions import EMOTIONS
from mien.evaluation.facts import Report, choice_words, looks, run_facts
from mien.evaluation.pages import render_page
from mien.evaluation.results import FERPLUS, UNSEEN
from mien.evaluation.robustness import CORRUPTIONS, stored_card, weakest
from mien.evaluation.wording import count, energy, headline_split, split_plural, split_title, unseen_of
from mien.runs import Run, write_text

LICENSE = "Apache-2.0"
"""Of networks whose report names none, as ``mien export`` gives it to files."""

PROTOCOLS = {
    "contest": "that of the challenge of 2013: validation, on which everything is chosen, is PublicTest, and the test"
    " is PrivateTest",
    "published": "that of the published study: validation, on which everything is chosen, is held out of Training, and"
    " the test is PublicTest and PrivateTest together",
}


def write_card(run: Run) -> Path:
    """Write a finished run's ``model_card.md`` from what it has stored; equal runs give equal bytes.

    Returns:
        its path.

    Raises:
        RunError: the run is not finished, has no results, has a damaged recipe, or cannot be written.
        DataError: ``robustness.json`` is damaged.
        MissingExtraError: jinja2 is not installed.
    """
    path = run.path / "model_card.md"
    write_text(path, model_card(run))
    return path


def model_card(run: Run) -> str:
    """The card as Markdown, with Hugging Face's header. Raises as :func:`write_card`."""
    report = run.report()
    split = headline_split(report)
    robustness = stored_card(run.path)
    values = {
        "name": run.path.resolve().name,
        "report": report,
        "license": report.get("license", LICENSE),
        "split_plural": split_plural(split),
        "split_title": split_title,
        "found": report["results"][split],
        "unseen": unseen_of(report, split),
        "indexed": [name for name in (split, split + UNSEEN) if name in report["results"]],
        "emotions": [emotion.value for emotion in EMOTIONS],
        "protocol": _protocol_words(report),
        "choice": choice_words(run, report, split),
        "looks": _look_words(run),
        "has_ferplus": any(name.endswith(FERPLUS) for name in report["results"]),
        "training": run.settings().get("training", {}),
        "facts": [line for _, lines in run_facts(report) for line in lines],
        "energy": None if report.get("energy_joules") is None else energy(report["energy_joules"]),
        "robustness": robustness,
        "corruptions": CORRUPTIONS,
        "weakest": None if robustness is None else CORRUPTIONS[weakest(robustness)].title,
        "predicted": [name for name in report["results"] if run.predictions_path(name).exists()],
    }
    return render_page("model_card.md.j2", values)


def _protocol_words(report: Report) -> str:
    if "fold" in report:
        return (
            f"one part of a cross-validation: validation is part {report['fold'] + 1} of {report['folds']} of Training"
        )
    return PROTOCOLS.get(report["protocol"], str(report["protocol"]))


def _look_words(run: Run) -> list[str]:
    """``PrivateTest once, on 2026-11-24`` for each test split that was looked at."""
    noted = looks(run)
    times = Counter(look["split"] for look in noted)
    days = {split: sorted({look["when"][:10] for look in noted if look["split"] == split}) for split in times}
    return [
        f"{split_title(split)} {'once' if number == 1 else f'{count(number)} times'}, on {', '.join(days[split])}"
        for split, number in times.items()
    ]
