"""``report.json`` as a value: what was trained, how, where, and what was measured on each split.

Reading and writing keep a report as it is, to the byte: keys that a report lacks stay away, and all keep their order.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import RunError
from mien.files import write_text

INTERVAL = "_ci95"
"""Ends the key of a metric's 95 % interval."""

REMEDY = "remove it, and go on with --resume, which writes it again; test splits are to be evaluated again"
"""What to do about a damaged report."""

OUR_LICENSE, NO_LICENSE = "Apache-2.0", "NOASSERTION"
OUR_DATA = ("fer2013", "synthetic")
"""Data whose networks have our licence, unless their report states another."""

_FINAL = {
    # Under `contest` PublicTest is the validation set, so that `published_test` would count it again.
    "contest": ("private_test", "published_test", "validation"),
    "published": ("published_test", "private_test", "public_test", "validation"),
}
"""Protocol -> splits, the most final first."""


class Subset(StrEnum):
    """Which images of a split a result is about, and on whose labels."""

    ALL = "all"
    UNSEEN = "unseen"
    """Identical to no picture that the network learnt from."""
    FERPLUS = "ferplus"
    """With a label by FER+'s voters, which replaces FER-2013's."""
    PRESENT = "present"
    """All, with answers among the classes that have faces: probabilities of absent ones are taken out."""


@dataclass(frozen=True)
class Estimate:
    """A metric and its 95 % interval, where it has one; rates are fractions in [0, 1]."""

    value: float
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class SplitResult:
    """What was measured on one split, or on a subset of it."""

    split: str  # such as ``private_test``
    subset: Subset
    n: int  # images
    views: int  # of each face at test time, averaged (test-time augmentation): 1, 2 or 10
    metrics: Mapping[str, Estimate]  # accuracy, macro_f1, nll, ...
    classes: Mapping[str, tuple[Estimate, ...]]  # precision, recall and f1, of each class in the labels' order
    confusion: tuple[tuple[int, ...], ...]  # counts, [label][prediction]
    left_out: int | None = None  # images without a label by FER+'s voters; ``None`` where this is not asked
    tied: int | None = None  # images whose most votes are shared by several emotions
    called: str | None = None  # what data that are not FER-2013's call the split, such as ``val``
    seen: int | None = None  # images identical to one that it learnt from, at least; ``None`` where that is not known
    subjects_seen: int | None = None  # people of these images whom Training shows too; ``None`` where that is not known
    subjects: int | None = None  # people shown, where intervals are by subject
    effective_n: float | None = None  # independent images that would tell the accuracy as exactly
    order: tuple[str, ...] = field(default=(), compare=False, repr=False)  # of the keys in the file

    @property
    def accuracy(self) -> Estimate:
        """Fraction of correct answers."""
        return self.metrics["accuracy"]

    @property
    def counts(self) -> NDArray[np.int64]:
        """The confusion matrix, ``(K, K)``, labels down."""
        return np.array(self.confusion, dtype=np.int64)

    def absent(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Those of the labels' ``classes`` that no image has."""
        return tuple(name for name, total in zip(classes, self.counts.sum(1).tolist(), strict=True) if not total)

    @property
    def of_absent(self) -> int:
        """Answers that name a class that no image has."""
        counts = self.counts
        return int(counts[:, counts.sum(1) == 0].sum())

    @property
    def is_test(self) -> bool:
        """Whether nothing was chosen on these images."""
        return is_test(self.split)

    @property
    def key(self) -> str:
        """Name under ``results`` in the file."""
        return self.split if self.subset is Subset.ALL else f"{self.split}_{self.subset}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that ``report.json`` says; a value that it does not have is ``None``."""

    model: str
    recipe: str  # its name; where the file does not say it, the model's
    recipe_sha256: str | None = None
    teachers_sha256: tuple[str, ...] | None = None  # of the networks that it was distilled from
    members: tuple[str, ...] | None = None  # networks of an ensemble
    data: str | None = None  # name of the data set that the results are of
    trained_on: str | None = None  # where that is another
    data_sha256: str | None = None
    row_source: str | None = None
    skipped: int | None = None  # images left out on request
    labels: tuple[str, ...] | None = None  # classes in the order of all rates; the seven emotions are not written
    protocol: str | None = None  # contest or published
    fold: int | None = None  # part of Training that was held out, of ``folds``
    folds: int | None = None
    group: str | None = None  # the recipe's data.group, which tells subjects
    validation_subjects: int | None = None  # in the validation split, none of them in training; None where unknown
    validation_rows: str | int | None = None
    training_rows: int | None = None
    learnt_pictures: int | None = None  # different ones that it learnt from; ``None`` where there may be more
    most_frequent: str | None = None  # class of the training split
    weights: str | None = None  # which were kept: best, last or ema
    initialization: str | None = None  # scratch, imagenet, checkpoint or file
    pretrained: str | None = None  # timm's full name of the ImageNet weights, such as resnet50.a1_in1k
    seed: int | None = None
    input_size: int | None = None  # side of the faces, in pixels
    color: bool | None = None  # whether it takes faces in colour; not written of grey ones
    precision: str | None = None
    temperature: float | None = None
    parameters: int | None = None
    macs: int | None = None  # multiply-adds for one face
    epochs: int | None = None  # passes over the training split
    best_epoch: int | None = None  # counts from 1
    batch_size: int | None = None
    train_seconds: float | None = None  # validation included
    pictures_per_second: float | None = None
    energy_joules: float | None = None
    energy_source: str | None = None
    device: str | None = None
    processes: int | None = None
    machine: str | None = None
    threads: int | None = None
    python_version: str | None = None
    torch_version: str | None = None
    mien_version: str | None = None
    command: str | None = None
    views: int | None = None  # at test time, of the results that do not say their own
    results: tuple[SplitResult, ...] = ()  # in the file's order
    file: str | None = None  # of an exported network, as what follows
    sha256: str | None = None
    bytes: int | None = None
    license: str | None = None
    training_data: str | None = None
    training_data_note: str | None = None
    parity_difference: float | None = None
    arithmetic: str | None = None
    validation_accuracy_float32: float | None = None
    validation_accuracy_int8: float | None = None
    faces_per_second: float | None = None  # of the file, classification alone
    faces_per_second_batch: int | None = None
    faces_per_second_threads: int | None = None
    faces_per_second_machine: str | None = None
    abstention: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)  # keys that this version does not know
    order: tuple[str, ...] = field(default=(), compare=False, repr=False)  # of the keys in the file

    @property
    def classes(self) -> tuple[str, ...]:
        """What the network names: ``labels``, or the seven emotions."""
        return EMOTIONS if self.labels is None else self.labels

    @property
    def stated_license(self) -> str:
        """SPDX identifier of the licence; ``NOASSERTION`` where only the owner of the data can say it."""
        ours = (self.trained_on or self.data) in OUR_DATA
        return self.license or (OUR_LICENSE if ours else NO_LICENSE)

    def result(self, split: str, subset: Subset | str = Subset.ALL) -> SplitResult | None:
        """What was measured on a split, or ``None``."""
        wanted = split, Subset(subset)
        return next((each for each in self.results if (each.split, each.subset) == wanted), None)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that were measured, in the file's order."""
        return tuple(each.split for each in self.results if each.subset is Subset.ALL)

    def headline(self) -> SplitResult:
        """The most final result: test images before validation.

        Raises:
            RunError: there is none.
        """
        split = _most_final(self.splits, self.protocol)
        found = None if split is None else self.result(split)
        if found is None:
            raise RunError(f"the report of {self.recipe} has no results; evaluate a split first: mien evaluate RUN")
        return found

    def with_results(self, results: Iterable[SplitResult]) -> "Report":
        """The same report; results replace those of the same split and subset, others are added."""
        merged = {each.key: each for each in (*self.results, *results)}
        return dataclasses.replace(self, results=tuple(merged.values()))

    def content(self) -> dict[str, Any]:
        """The values of ``report.json``."""
        values = {name: getattr(self, name) for name in _report_kinds()}
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None or name in self.order
        }
        if self.order and "recipe" not in self.order and self.recipe == self.model:
            del values["recipe"]
        values |= {"results": {each.key: _result_content(each) for each in self.results}, **self.extra}
        return _in_order(values, self.order)

    def to_json(self) -> str:
        """The text of ``report.json``."""
        return json.dumps(self.content(), indent=2) + "\n"

    def save(self, path: Path) -> None:
        """Replace a file, whole or not at all."""
        write_text(path, self.to_json())


def is_test(split: str) -> bool:
    """Whether nothing is chosen on the images of a split."""
    return split.endswith("_test")


def _most_final(splits: Iterable[str], protocol: str | None) -> str | None:
    """The split that says most under a protocol: test images before validation."""
    known = list(splits)
    order = (*_FINAL.get(protocol or "", _FINAL["published"]), *known)
    return next((split for split in order if split in known), None)


def common_split(reports: Sequence[Report]) -> str:
    """The most final split that all of one or more reports have results of.

    Raises:
        RunError: there is none.
    """
    shared = set.intersection(*(set(report.splits) for report in reports))
    # Of differing protocols the contest's decides, because its validation set is a part of published_test.
    protocols = {report.protocol for report in reports}
    found = _most_final(sorted(shared), "contest" if "contest" in protocols else "published")
    if found is None:
        raise RunError("the runs share no split; evaluate the same split of each: mien evaluate RUN --split S")
    return found


def load_report(path: Path) -> Report:
    """Read a ``report.json``, or the card of a network in the package.

    Raises:
        RunError: it is missing or damaged; names the key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"no {path.name} in {path.parent}: its training has not ended; go on with --resume") from error
    except (ValueError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}; {REMEDY}") from error
    try:
        return parse_report(content, source=str(path))
    except RunError as error:
        raise RunError(f"{error}; {REMEDY}") from error


def parse_report(content: object, source: str) -> Report:
    """The report of JSON values; ``source`` names them in errors.

    Raises:
        RunError: a value is missing or of the wrong kind.
    """
    try:
        if not isinstance(content, dict) or not isinstance(content.get("results", {}), dict):
            raise TypeError("expected an object with results")
        known = {key: content[key] for key in content.keys() & _report_kinds().keys()}
        for key, kinds in _report_kinds().items():
            if key in known and not isinstance(known[key], kinds):
                names = ("nothing" if kind is NoneType else kind.__name__ for kind in kinds)
                raise TypeError(f"{key}: expected {' or '.join(names)}, got {known[key]!r}")
        known |= {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
        return Report(
            **{"recipe": content["model"], **known},
            results=tuple(_parse_result(key, found, content) for key, found in content.get("results", {}).items()),
            extra={key: content[key] for key in content if key not in known and key != "results"},
            order=tuple(content),
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{source} is damaged: {reason}") from error


def _parse_result(key: str, found: Mapping[str, Any], report: Mapping[str, Any]) -> SplitResult:
    split, subset = key, Subset.ALL
    for each in (Subset.UNSEEN, Subset.FERPLUS, Subset.PRESENT):
        if key.endswith(f"_{each}"):
            split, subset = key.removesuffix(f"_{each}"), each
    metrics: dict[str, Estimate] = {}
    classes: dict[str, tuple[Estimate, ...]] = {}
    for name, value in found.items():
        bounds = found.get(name + INTERVAL)
        if name in _PLAIN or name.endswith(INTERVAL):
            continue
        if isinstance(value, list):
            each_bounds = bounds or [None] * len(value)
            classes[name] = tuple(_estimate(rate, pair) for rate, pair in zip(value, each_bounds, strict=True))
        else:
            metrics[name] = _estimate(value, bounds)
    return SplitResult(
        split,
        subset,
        n=_count(found["n"]),
        views=_count(found.get("views", report.get("views", 1))),
        metrics=metrics,
        classes=classes,
        confusion=tuple(tuple(_count(value) for value in line) for line in found["confusion"]),
        left_out=None if "left_out" not in found else _count(found["left_out"]),
        tied=None if "tied" not in found else _count(found["tied"]),
        called=None if "called" not in found else str(found["called"]),
        seen=None if "seen" not in found else _count(found["seen"]),
        subjects_seen=None if "subjects_seen" not in found else _count(found["subjects_seen"]),
        subjects=None if "subjects" not in found else _count(found["subjects"]),
        effective_n=None if "effective_n" not in found else _estimate(found["effective_n"], None).value,
        order=tuple(found),
    )


_PLAIN = (
    "n", "views", "confusion", "left_out", "tied", "called", "seen", "subjects_seen", "subjects", "effective_n",
)  # fmt: skip
"""Keys of a result that are no metric."""


def _estimate(value: Any, bounds: Any) -> Estimate:
    if not isinstance(value, float | int):
        raise TypeError(f"expected a number, got {value!r}")
    return Estimate(value, None if bounds is None else (bounds[0], bounds[1]))


def _count(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _result_content(result: SplitResult) -> dict[str, object]:
    values: dict[str, object] = {"n": result.n}
    values |= {name: each.value for name, each in result.metrics.items()}
    values |= {name: [each.value for each in rates] for name, rates in result.classes.items()}
    values |= {name + INTERVAL: each.ci95 for name, each in result.metrics.items() if each.ci95 is not None}
    for name, rates in result.classes.items():
        if any(each.ci95 is not None for each in rates):  # a class that few people show has none
            values[name + INTERVAL] = [each.ci95 for each in rates]
    values |= {"confusion": result.confusion, "left_out": result.left_out, "tied": result.tied, "views": result.views}
    values |= {"called": result.called, "seen": result.seen, "subjects_seen": result.subjects_seen}
    values |= {"subjects": result.subjects, "effective_n": result.effective_n}
    if result.order and "views" not in result.order:
        del values["views"]
    return _in_order({name: value for name, value in values.items() if value is not None}, result.order)


def _in_order(values: dict[str, object], order: Sequence[str]) -> dict[str, object]:
    """The values in the order of the file that they come from; new ones follow."""
    return {key: values[key] for key in dict.fromkeys((*order, *values)) if key in values}


@cache
def _report_kinds() -> dict[str, tuple[type, ...]]:
    """Key -> what its value may be in JSON."""
    in_json: dict[Any, list[type]] = {float: [float, int], tuple: [list]}
    kinds = {}
    for name, hint in get_type_hints(Report).items():
        if name not in ("results", "extra", "order"):
            parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
            kinds[name] = tuple(kind for part in parts for kind in in_json.get(get_origin(part) or part, [part]))
    return kinds
