from typing import Any

import pytest

from mien.report import format as formats
from mien.runs import SplitResult, Subset

SPACE, DASH = "\N{NO-BREAK SPACE}", "\N{EN DASH}"


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("percent", (0.4717,), "47.2_%"),
        ("percent", (0.4717, 0), "47_%"),
        ("percent", (None,), DASH),
        ("interval", ((0.4601, 0.4833),), f"46.0{DASH}48.3_%"),
        ("bounds", ((0.6551, 0.6893),), "(0.655 to 0.689)"),
        ("bounds", ((0.6551, 0.6893), 1, 100), "(65.5 to 68.9)"),
        ("bounds", (None,), ""),
        ("points", (-0.0128,), "1.3_points"),
        ("points", (0.0101,), "1.0_point"),
        ("fixed", (0.4717,), "0.472"),
        ("fixed", (None,), DASH),
        ("count", (35887,), "35,887"),
        ("count", (None,), DASH),
        ("short", (94122,), "94.1_k"),
        ("short", (1_274_823,), "1.27_M"),
        ("short", (4.1e9,), "4.10_G"),
        ("short", (213e6,), "213_M"),
        ("short", (99_960,), "100_k"),
        ("short", (12,), "12"),
        ("duration", (119,), "119_s"),
        ("duration", (2347,), "39_min"),
        ("duration", (7300,), "2_h 02_min"),
        ("duration", (3590,), "60_min"),
        ("plural", (1, "run"), "1_run"),
        ("plural", (3000, "run"), "3,000_runs"),
        ("spelled", (3,), "three"),
        ("spelled", (13,), "13"),
        ("data_title", ("fer2013",), "FER-2013"),
        ("data_title", ("other",), "other"),
        ("split_plural", ("published_test",), "test images (PublicTest and PrivateTest)"),
        ("split_plural", ("published_test", True), "test images"),
    ],
)
def test_numbers_in_words(function: str, arguments: tuple[Any, ...], expected: str) -> None:
    assert getattr(formats, function)(*arguments) == expected.replace("_", SPACE)


@pytest.mark.parametrize(
    ("split", "subset", "expected"),
    [
        ("private_test", Subset.UNSEEN, "PrivateTest, unseen"),
        ("validation", Subset.FERPLUS, "Validation, FER+ labels"),
        ("elsewhere", Subset.ALL, "elsewhere"),
    ],
)
def test_titles_of_results(split: str, subset: Subset, expected: str) -> None:
    assert formats.result_title(SplitResult(split, subset, 1, 1, {}, {}, ())) == expected
