import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import SHARED

from mien.data import FaceSamples, read_votes, votes_on
from mien.data.ferplus import emotion_votes
from mien.data.samples import RowSource
from mien.emotions import VOTE_COLUMNS
from mien.errors import DataError, MissingPathError

FERPLUS = SHARED / "fer2013" / "ferplus_fer2013new.csv"
HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def lines() -> list[str]:
    """A whole file: row i has i % 11 votes for anger, and nine lines in ten an image name."""
    usages = ["Training"] * 28_709 + ["PublicTest"] * 3_589 + ["PrivateTest"] * 3_589
    return [
        f"{usage},{'' if row % 10 == 9 else f'fer{row:07}.png'},0,0,0,0,{row % 11},0,0,0,0,0"
        for row, usage in enumerate(usages)
    ]


def write(path: Path, body: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *body]) + "\n", encoding="utf-8")
    return path


def test_line_i_is_row_i_whatever_the_name(tmp_path: Path) -> None:
    body = lines()
    body[100] = body[100].replace("fer0000100", "fer0000132")
    votes = read_votes(write(tmp_path / "fer2013new.csv", body))
    assert votes.shape == (35_887, 10)
    assert votes.dtype == np.uint8
    assert (votes[:, VOTE_COLUMNS.index("anger")] == np.arange(35_887) % 11).all()


def test_emotion_votes_stand_in_the_order_of_emotions() -> None:
    votes = np.arange(10, dtype=np.uint8)[None]
    # angry, disgust, fear, happy, sad, surprise, neutral
    assert emotion_votes(votes).tolist() == [[4, 5, 6, 1, 3, 2, 0]]


@pytest.mark.parametrize("shape", [(10,), (3, 7), (3, 11)])
def test_emotion_votes_need_ten_columns(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"votes \(N, 10\)"):
        emotion_votes(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (5, lambda line: line.rsplit(",", 1)[0], "line 7: expected 12 fields, got 11"),
        (5, lambda line: line[:-1] + "x", "line 7: expected counts of at most 10 votes"),
        (5, lambda line: line[:-1] + "11", "line 7: expected counts"),
        (5, lambda line: line[:-1] + "-1", "line 7: expected counts"),
        (5, lambda line: line[:-1] + "9", "line 7: expected counts"),  # 5 + 9 votes
        (5, lambda line: "Exam" + line, "line 7: expected Usage"),
        (28_709, lambda line: line.replace("PublicTest", "Training"), "line 28711: expected the usage"),
    ],
)
def test_bad_lines_are_named(row: int, change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    body = lines()
    body[row] = change(body[row])
    with pytest.raises(DataError, match=rf"votes\.csv {message}"):
        read_votes(write(tmp_path / "votes.csv", body))


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="fer2013new"):
        read_votes(tmp_path / "none.csv")
    with pytest.raises(DataError, match="35,887 lines of votes, got 35,886"):
        read_votes(write(tmp_path / "short.csv", lines()[1:]))
    with pytest.raises(DataError, match=r"line 1: expected the columns.*got emotion, pixels"):
        read_votes(write(tmp_path / "fer2013.csv", [], header="emotion,pixels"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="an empty file"):
        read_votes(tmp_path / "empty.csv")
    with pytest.raises(DataError, match="expected a whole file"):
        read_votes(tmp_path)


def test_votes_on_known_rows_only(tmp_path: Path, drawn: FaceSamples) -> None:
    path = write(tmp_path / "votes.csv", lines())
    known = dataclasses.replace(drawn, rows=drawn.rows + 100, row_source=RowSource.INDEX)
    assert (votes_on(known, path)[:, VOTE_COLUMNS.index("anger")] == known.rows % 11).all()
    with pytest.raises(DataError, match="lossless copy of FER-2013"):
        votes_on(drawn, path)


@pytest.mark.shared
@pytest.mark.skipif(not FERPLUS.is_file(), reason=f"the real votes are not at {FERPLUS}")
def test_real_votes() -> None:
    votes = read_votes(FERPLUS)
    assert votes[0].tolist() == [4, 0, 0, 1, 3, 2, 0, 0, 0, 0]
    assert votes[1].tolist() == [6, 0, 1, 1, 0, 0, 0, 0, 2, 0]
    assert np.bincount(votes.sum(axis=1), minlength=11)[9:].tolist() == [1, 35_886]
    assert emotion_votes(votes)[0].tolist() == [3, 2, 0, 0, 1, 0, 4]
