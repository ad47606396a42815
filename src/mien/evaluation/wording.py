"""Numbers of a report -> words that pages show, the same on each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from mien.errors import RunError
from mien.evaluation.results import FERPLUS, UNSEEN

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

SPLIT_PLURALS = {
    "training": "training pictures",
    "validation": "validation pictures",
    "public_test": "PublicTest pictures",
    "private_test": "PrivateTest pictures",
    "published_test": "test pictures (PublicTest and PrivateTest)",
}

_FINAL = {
    # Under `contest` PublicTest is the validation set, so that `published_test` would count it again.
    "contest": ("private_test", "published_test", "validation"),
    "published": ("published_test", "private_test", "public_test", "validation"),
}


def headline_split(report: Mapping[str, Any]) -> str:
    """The most final split that a report has figures of: test pictures before validation.

    Raises:
        RunError: it has none.
    """
    results = report["results"]
    for split in (*_FINAL.get(report.get("protocol", ""), _FINAL["published"]), *results):
        if split in results:
            return str(split)
    raise RunError(f"the report of {report.get('recipe')} has no results; evaluate a split first: mien evaluate RUN")


def common_split(reports: Sequence[Mapping[str, Any]]) -> str:
    """The most final split that all of one or more reports have figures of.

    Raises:
        RunError: there is none.
    """
    shared = set.intersection(*(set(report["results"]) for report in reports))
    found = sorted(name for name in shared if not name.endswith((UNSEEN, FERPLUS)))
    if not found:
        raise RunError("the runs share no split; evaluate the same split of each: mien evaluate RUN --split S")
    # Of differing protocols the contest's decides, because its validation set is a part of published_test.
    protocol = min(report["protocol"] for report in reports)
    return headline_split({"protocol": protocol, "results": dict.fromkeys(found)})


def views_of(report: Mapping[str, Any], split: str) -> int:
    """Of each face at test time that the figures of a split are averages over."""
    return int(report["results"][split].get("views", report["views"]))


def unseen_of(report: Mapping[str, Any], split: str) -> dict[str, Any] | None:
    """Figures of the split's pictures without an identical copy in Training, where it is a test split."""
    found: dict[str, Any] | None = report["results"].get(split + UNSEEN)
    return found


def is_test(split: str) -> bool:
    """Whether nothing was chosen on these pictures."""
    return split.removesuffix(UNSEEN).removesuffix(FERPLUS).endswith("_test")


def split_plural(split: str, short: bool = False) -> str:
    """``"private_test"`` -> ``"PrivateTest pictures"``; ``short`` leaves out what the test pictures consist of."""
    words = SPLIT_PLURALS.get(split, f"{split} pictures")
    return words.partition(" (")[0] if short else words


def split_title(split: str) -> str:
    """``"private_test_unseen"`` -> ``"PrivateTest, unseen"``, ``"..._ferplus"`` -> ``"..., FER+ labels"``."""
    for ending, words in ((UNSEEN, ", unseen"), (FERPLUS, ", FER+ labels")):
        if split.endswith(ending):
            return split_title(split.removesuffix(ending)) + words
    return SPLIT_TITLES.get(split, split)


def data_title(name: str) -> str:
    """``"fer2013"`` -> ``"FER-2013"``; other names stand for themselves."""
    return DATA_TITLES.get(name, name)


def percent(rate: float | None, digits: int = 1) -> str:
    """0.4717 -> ``47.2 %``; a dash for ``None``."""
    return DASH if rate is None else f"{100 * rate:.{digits}f}{SPACE}%"


def interval(bounds: tuple[float, float] | list[float]) -> str:
    """(0.460, 0.483) -> ``46.0-48.3 %``, with an en dash."""
    return f"{100 * bounds[0]:.1f}{DASH}{100 * bounds[1]:.1f}{SPACE}%"


def bounds(pair: Sequence[float] | None, digits: int = 3, scale: float = 1) -> str:
    """(0.6551, 0.6893) -> ``(0.655 to 0.689)``, by ``digits=1, scale=100`` ``(65.5 to 68.9)``; nothing for ``None``."""
    return "" if pair is None else f"({scale * pair[0]:.{digits}f} to {scale * pair[1]:.{digits}f})"


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
    """3 -> ``three``; figures from thirteen on."""
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    return words[number] if number < len(words) else str(number)


def sentences(*parts: str) -> str:
    """The parts that are not empty, with a space between them."""
    return " ".join(part for part in parts if part)
