"""FER+: ten votes on each picture of FER-2013.

Source: Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", arXiv:1608.01041; the file is ``fer2013new.csv`` of https://github.com/microsoft/FERPlus.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import emotions, errors
from mien.data import index
from mien.data.layouts.tree import explained
from mien.data.samples import UNLABELLED, FaceSamples, RowSource, Usage

VOTERS = 10

_HEADER = ["usage", "image name", *(column.lower() for column in emotions.VOTE_COLUMNS)]
_COUNTS = {str(count): count for count in range(VOTERS + 1)}
_USAGES = {"training": Usage.TRAINING, "publictest": Usage.PUBLIC_TEST, "privatetest": Usage.PRIVATE_TEST}


def read_votes(path: Path) -> NDArray[np.uint8]:
    """Votes on each row of FER-2013: uint8 ``(35887, 10)``, columns as in ``emotions.VOTE_COLUMNS``.

    Line ``i`` of the file (from 0, after the header) belongs to row ``i``. The numbers in its image names do not:
    they agree with the rows for the first 60 only.

    Raises:
        MissingPathError: there is no such file.
        DataError: other columns, another number of lines, or a value that is no count of votes; names the line.
    """
    if not path.exists():
        raise errors.MissingPathError(
            f"{path}: expected FER+'s fer2013new.csv, but there is no such file; check the path"
        )
    with explained(str(path)), open(path, encoding="utf-8-sig", newline="") as stream:
        lines = list(_lines(stream, path))
    if len(lines) != index.ROWS:
        raise errors.DataError(
            f"{path}: expected {index.ROWS:,} lines of votes, got {len(lines):,}; fetch fer2013new.csv again"
        )
    usages = index.usages_of_rows(np.arange(index.ROWS, dtype=np.int32))
    for (line, usage, _), expected in zip(lines, usages, strict=True):
        if usage != expected:
            raise _line_error(path, line, f"the usage of FER-2013's row, {Usage(expected).name}", usage.name)
    return np.array([votes for _, _, votes in lines], dtype=np.uint8)


def _lines(stream: Iterable[str], path: Path) -> Iterator[tuple[int, Usage, list[int]]]:
    """Number, usage and votes of each line after the header, which is line 1."""
    reader = csv.reader(stream, strict=True)
    header = [name.strip().lower() for name in next(reader, [])]
    if header != _HEADER:
        raise _line_error(path, 1, f"the columns {', '.join(_HEADER)}", ", ".join(header)[:200] or "an empty file")
    for row in filter(None, reader):
        line = reader.line_num
        if len(row) != len(_HEADER):
            raise _line_error(path, line, f"{len(_HEADER)} fields", str(len(row)))
        usage = _USAGES.get(row[0].strip().lower())
        if usage is None:
            raise _line_error(path, line, "Usage Training, PublicTest or PrivateTest", repr(row[0]))
        votes = [_COUNTS.get(text.strip(), -1) for text in row[2:]]
        if min(votes) < 0 or sum(votes) > VOTERS:
            raise _line_error(path, line, f"counts of at most {VOTERS} votes", ",".join(row[2:]))
        yield line, usage, votes


def _line_error(path: Path, line: int, expected: str, got: str) -> errors.DataError:
    return errors.DataError(f"{path} line {line}: expected {expected}, got {got}; fetch FER+'s fer2013new.csv again")


def votes_on(samples: FaceSamples, path: Path) -> NDArray[np.uint8]:
    """Votes on each of ``samples``: uint8 ``(N, 10)``, columns as in ``VOTE_COLUMNS``.

    Raises:
        DataError: as :func:`read_votes`, or the samples are not known rows of FER-2013.
    """
    votes = read_votes(path)
    if samples.row_source is not RowSource.INDEX:
        raise errors.DataError(
            f"{path}: FER+'s votes are on rows of FER-2013, and the rows of these faces come from"
            f" {samples.row_source}; give a lossless copy of FER-2013, or leave the votes out"
        )
    return votes[samples.rows]


def emotion_votes(votes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Votes for FER-2013's seven emotions in the order of ``EMOTIONS``: ``(N, 10) -> (N, 7)``.

    Contempt, unknown and "not a face" fall away, so that a row may sum to less than ten, and to nothing.
    """
    if votes.ndim != 2 or votes.shape[1] != len(emotions.VOTE_COLUMNS):
        raise errors.DataError(
            f"expected votes (N, {len(emotions.VOTE_COLUMNS)}) as read_votes gives them, got {votes.shape}"
        )
    columns = [emotions.label_of(name) for name in emotions.VOTE_COLUMNS]
    return votes[:, [columns.index(label) for label in range(len(emotions.EMOTIONS))]]


def majority_labels(votes: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The emotion with the most votes on each picture, of equals the first, or ``UNLABELLED``: ``(N, 10) -> (N,)``.

    A picture has no label where contempt, unknown or "not a face" has more votes than each of the seven, or none of
    them has any.
    """
    found = emotion_votes(votes)
    highest = found.max(1, initial=0)
    named = (highest > 0) & (highest == votes.max(1, initial=0))
    return np.where(named, found.argmax(1), UNLABELLED).astype(np.int8)


def emotion_shares(votes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Fractions of the votes for the seven emotions: ``(N, 10) -> (N, 7)``; all 0 where none of them has any."""
    found = emotion_votes(votes).astype(np.float64)
    fractions: NDArray[np.float64] = found / np.maximum(found.sum(1, keepdims=True), 1)
    return fractions
