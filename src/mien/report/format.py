"""Numbers and names as pages write them, the same on each of them; every function here is a filter of the templates."""

from collections.abc import Sequence

from mien.emotions import EMOTIONS
from mien.evaluation.metrics import METRICS, metric_title  # noqa: F401  (a filter)
from mien.runs import OUR_DATA, Estimate, Report, SplitResult, Subset

SPACE = "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"
DATA_TITLES = {"fer2013": "FER-2013", "synthetic": "drawn faces"}

SPLIT_TITLES = {
    "training": "Training",
    "validation": "Validation",
    "public_test": "PublicTest",
    "private_test": "PrivateTest",
    "published_test": "PublicTest and PrivateTest",
}

SUBSET_TITLES = {
    Subset.ALL: "", Subset.UNSEEN: ", unseen", Subset.FERPLUS: ", FER+ labels", Subset.PRESENT: ", classes present",
}  # fmt: skip

SPLIT_PLURALS = {
    "public_test": "PublicTest images",
    "private_test": "PrivateTest images",
    "published_test": "test images (PublicTest and PrivateTest)",
}

COLUMNS = (
    "accuracy", "macro_f1", "ece", "ece_uncalibrated", "nll", "nll_uncalibrated", "brier", "cross_entropy",
    "kl_divergence",
)  # fmt: skip
"""Metrics that pages show in places of their own; others get a column by themselves."""

INITIALIZATIONS = {
    "scratch": "from scratch",
    "imagenet": "ImageNet weights",
    "checkpoint": "weights of an earlier run",
    "file": "weights from a file",
}


def split_plural(split: str | SplitResult, short: bool = False) -> str:
    """``"private_test"`` -> ``"PrivateTest images"``; ``short`` leaves out what the test images consist of.

    Of a result it is what the data call the split, where they have a name of their own.
    """
    if isinstance(split, SplitResult):
        return f"{split.called} images" if split.called else split_plural(split.split, short)
    words = SPLIT_PLURALS.get(split, f"{split} images")
    return words.partition(" (")[0] if short else words


def split_title(split: str | SplitResult) -> str:
    """``"private_test"`` -> ``"PrivateTest"``; other names stand for themselves, and data's own names first."""
    if isinstance(split, SplitResult):
        return split.called or split_title(split.split)
    return SPLIT_TITLES.get(split, split)


def shown(classes: Sequence[str]) -> str:
    """What pictures with labels of these classes show: a ``face``, or where they are no emotions an ``image``."""
    return "face" if set(classes) <= set(EMOTIONS) else "image"


def has_own_splits(report: Report) -> bool:
    """Whether the results are of data that are not split as FER-2013 is."""
    return any(each.called for each in report.results) or report.data not in (None, *OUR_DATA)


def look_title(split: str, report: Report) -> str:
    """A split that was looked at, as :func:`split_title` where a report has its result or is of FER-2013's splits."""
    found = report.result(split)
    return split.replace("_", " ") if found is None and has_own_splits(report) else split_title(found or split)


def result_title(result: SplitResult) -> str:
    """``"PrivateTest"``, or with a word on its subset, such as ``"PrivateTest, unseen"``."""
    return split_title(result) + SUBSET_TITLES[result.subset]


def data_title(name: str) -> str:
    """``"fer2013"`` -> ``"FER-2013"``; other names stand for themselves."""
    return DATA_TITLES.get(name, name)


def setting(value: object) -> str:
    """A recipe's value as in ``--set``; ``None`` is the network's default."""
    return "default" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def percent(rate: float | None, digits: int = 1) -> str:
    """0.4717 -> ``47.2 %``; a dash for ``None``."""
    return DASH if rate is None else f"{100 * rate:.{digits}f}{SPACE}%"


def interval(bounds: Sequence[float]) -> str:
    """(0.460, 0.483) -> ``46.0-48.3 %``, with an en dash."""
    return f"{100 * bounds[0]:.1f}{DASH}{100 * bounds[1]:.1f}{SPACE}%"


def bounds(pair: Sequence[float] | None, digits: int = 3, scale: float = 1) -> str:
    """(0.6551, 0.6893) -> ``(0.655 to 0.689)``, by ``digits=1, scale=100`` ``(65.5 to 68.9)``; nothing for ``None``."""
    return "" if pair is None else f"({scale * pair[0]:.{digits}f} to {scale * pair[1]:.{digits}f})"


def more_metrics(results: Sequence[SplitResult]) -> list[str]:
    """Names of the metrics of some results that pages have no column of their own for."""
    found = dict.fromkeys(name for result in results for name in result.metrics)
    return [name for name in found if name not in COLUMNS]


def metric_value(found: Estimate, name: str) -> str:
    """A metric and its interval, in percent where the table of metrics says so."""
    if name in METRICS and METRICS[name].percent:
        return f"{percent(found.value)} {bounds(found.ci95, 1, 100)}".strip()
    return f"{fixed(found.value)} {bounds(found.ci95)}".strip()


def points(difference: float) -> str:
    """0.0128 -> ``1.3 points``, without a sign."""
    size = f"{100 * abs(difference):.1f}"
    return f"{size}{SPACE}{'point' if size == '1.0' else 'points'}"


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with so many digits, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """35887 -> ``35,887``; a dash for ``None``."""
    return DASH if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """94122 -> ``94.1 k``, 23.5e6 -> ``23.5 M``; three digits."""
    if value is None:
        return DASH
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.{0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2}f}{SPACE}{letter}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """2347 -> ``39 min``; seconds below two minutes, hours and minutes from two hours on."""
    if seconds is None:
        return DASH
    if seconds < 120:
        return f"{seconds:.0f}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes}{SPACE}min" if minutes < 120 else f"{minutes // 60}{SPACE}h {minutes % 60:02d}{SPACE}min"


def energy(joules: float | None) -> str:
    """4.5e6 -> ``1.25 kWh``; watt hours below one kWh."""
    if joules is None:
        return DASH
    hours = joules / 3600
    return f"{hours / 1000:.2f}{SPACE}kWh" if hours >= 1000 else f"{hours:.3g}{SPACE}Wh"


def plural(number: int, word: str) -> str:
    """(1, "run") -> ``1 run``, (3, "run") -> ``3 runs``."""
    return f"{number:,}{SPACE}{word}{'' if number == 1 else 's'}"


def spelled(number: int) -> str:
    """3 -> ``three``; digits from thirteen on."""
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    return words[number] if number < len(words) else str(number)
