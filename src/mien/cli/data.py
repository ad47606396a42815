"""``mien data``."""

from typing import Annotated

import numpy as np
from rich.console import Group
from rich.table import Table
from typer import Argument, Option

from mien.cli import shared
from mien.data import FaceSamples
from mien.data.samples import UNLABELLED, Usage
from mien.errors import CallError, DataError


def data(
    spec: Annotated[str, Argument(metavar="SPEC", help="synthetic[:N], fer2013:PATH, folder:PATH or a path.")],
    reading: shared.SetReading,
    rows: Annotated[
        str | None, Option(metavar="N,N,...", help="Rows of pages, predictions and reports: which files they are.")
    ] = None,
    kind: shared.Format = "table",
) -> None:
    """Say how labelled faces are read: size, splits, classes, subjects; and which file a row is."""
    chosen = None if rows is None else _parse_rows(rows)
    samples = reading.read(spec)
    if chosen is not None:
        found = [_row(samples, row) for row in chosen]
        table = shared.create_table(None, list(found[0]), [])
        for each in found:
            table.add_row(*(str(value) for value in each.values()))
        shared.print_answer(found, table, kind)
        return
    counts = _counts(samples)
    content = {
        "data": samples.name,
        "data_sha256": samples.content_sha256(),
        "row_source": samples.row_source.value,
        "n": len(samples),
        "size": samples.size,
        "color": samples.color,
        "classes": list(samples.classes),
        "subjects": None if samples.groups is None else len(np.unique(samples.groups[samples.groups >= 0])),
        "splits": counts,
        "skipped": list(samples.skipped),
    }
    shared.print_answer(content, Group(_sentence(samples), _table(samples, counts)), kind)


def _parse_rows(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise CallError(f"expected --rows as numbers with commas, such as 1203,17, got {text!r}") from error


def _row(samples: FaceSamples, row: int) -> dict[str, object]:
    """What is known of a row."""
    at = int(np.searchsorted(samples.rows, row))
    if at == len(samples) or samples.rows[at] != row:
        first, last = (int(samples.rows[end]) for end in (0, -1))
        raise DataError(
            f"{samples.name}: expected a row that was read, from {first} to {last}, got {row}; give another"
        )
    label = int(samples.labels[at])
    return {
        "row": row,
        "split": samples.split_name(Usage(samples.usages[at])),
        "label": "no label" if label == UNLABELLED else samples.classes[label],
        "file": f"{samples.name} has no files" if samples.paths is None else samples.paths[at],
    }


def _counts(samples: FaceSamples) -> dict[str, dict[str, int]]:
    """The data's own name of each split -> class -> faces."""
    return {
        samples.split_name(Usage(usage)): {
            name: int(((samples.usages == usage) & (samples.labels == label)).sum())
            for label, name in enumerate(samples.classes)
        }
        for usage in np.unique(samples.usages).tolist()
    }


def _sentence(samples: FaceSamples) -> str:
    text = f"{samples.name}: {len(samples):,} faces of {samples.size} x {samples.size} pixels"
    text += ", in colour" if samples.color else ", grey"
    if samples.groups is not None:
        text += f", {len(np.unique(samples.groups[samples.groups >= 0])):,} subjects"
    if samples.paths is not None:
        text += f"; files below {samples.paths.root}"
    return text


def _table(samples: FaceSamples, counts: dict[str, dict[str, int]]) -> Table:
    """A line for each class, a column for each split."""
    table = shared.create_table(None, ["class"], list(counts))
    for name in samples.classes:
        table.add_row(name, *(f"{of_split[name]:,}" for of_split in counts.values()))
    table.add_row("all", *(f"{sum(of_split.values()):,}" for of_split in counts.values()))
    return table
