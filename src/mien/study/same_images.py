"""What results are of: the one rule for rows of a call, of a study's folder, and for pages over any runs.

Test images are the same for all rows of the same data. Those of validation also follow from how they were held out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mien.data import FaceSamples, Split
from mien.errors import RunError
from mien.recipe import DataSettings
from mien.runs import Report
from mien.runs.report import common_split, is_test


@dataclass(frozen=True)
class Images:
    """The images of a split; equal ones are the same, and the text tells others apart.

    ``held_out`` is how validation was made: protocol, part and number of parts, what tells subjects. The number that
    was held out is ``n``.
    """

    data: str = field(compare=False)  # a folder may have moved
    sha256: str
    split: str
    n: int
    held_out: tuple[str | None, int | None, int | None, str | None] | None = None

    def __str__(self) -> str:
        told = f"{self.data}, content hash {self.sha256[:12]}, {self.n:,} images of {self.split}"
        if self.held_out is None:
            return told
        protocol, fold, folds, group = self.held_out
        told += f", protocol {protocol}"
        told += "" if fold is None else f", fold {fold} of {folds}"
        return told if group is None else f"{told}, by subject ({group})"


def images_of(report: Report, split: str) -> Images | None:
    """What a report's results on a split are of; ``None`` without such results."""
    result = report.result(split)
    if result is None:
        return None
    held_out = None if is_test(split) else (report.protocol, report.fold, report.folds, report.group)
    return Images(str(report.data), str(report.data_sha256 or report.data), split, result.n, held_out)


def validated_on(settings: DataSettings, samples: FaceSamples) -> Images:
    """The images that a recipe will be validated on.

    Raises:
        DataError: the data lack them.
    """
    folds = None if settings.fold is None else settings.folds
    return Images(
        samples.name,
        samples.content_sha256(),
        Split.VALIDATION.value,
        len(samples.split_for(Split.VALIDATION, settings)),
        (settings.protocol, settings.fold, folds, settings.group),
    )


def misfit(report: Report, others: Sequence[Report]) -> str | None:
    """Why a report cannot stand beside ``others``, which can stand side by side; ``None`` where it can.

    It is decided on the split that all of them share with it.
    """
    if not others:
        return None
    try:
        split = common_split([report, *others])
    except RunError:
        return "it has no results on a split of the others"
    theirs = {images_of(each, split) for each in others} - {images_of(report, split)}
    if not theirs:
        return None
    return f"it is of other images: {images_of(report, split)}, and not {' or '.join(map(str, theirs))}"


def told_apart(found: Iterable[tuple[str, Images]]) -> str | None:
    """Names with their images, those of the same images together; ``None`` where all are of the same."""
    kinds: dict[Images, list[str]] = {}
    for name, images in found:
        kinds.setdefault(images, []).append(name)
    return "; ".join(f"{images}: {', '.join(names)}" for images, names in kinds.items()) if len(kinds) > 1 else None
