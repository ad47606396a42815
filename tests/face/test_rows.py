import csv
import io
import json
import os
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from tests.face.test_result import face

from mien.errors import MissingExtraError, OutputError, UnknownNameError
from mien.face.result import Picture, picture_columns
from mien.face.writers import writing_pictures, writing_rows

PICTURES = (
    Picture('ä, "b".jpg', 100, 50, (face(), face(quality=0.2, reasons=("dark",)))),
    Picture("none.jpg", 10, 10),
    Picture("bad.jpg", error="expected a picture, got\nan empty file"),
)


def write(path: Path, pictures: tuple[Picture, ...] = PICTURES, then: BaseException | None = None) -> None:
    with writing_pictures(path) as add:
        for picture in pictures:
            add(picture)
        if then is not None:
            raise then


def test_json(tmp_path: Path) -> None:
    write(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == [picture.to_json() for picture in PICTURES]
    write(tmp_path / "empty.json", ())
    assert json.loads((tmp_path / "empty.json").read_text()) == []


def test_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.JSONL")
    lines = (tmp_path / "a.JSONL").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [picture.to_json() for picture in PICTURES]


def test_csv(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    content = (tmp_path / "a.csv").read_bytes().decode()
    assert "\r" not in content
    rows = list(csv.DictReader(io.StringIO(content)))
    assert list(rows[0]) == list(picture_columns())
    expected = [row for picture in PICTURES for row in picture.to_rows()]
    assert len(rows) == len(expected) == 4
    assert rows[0]["path"] == PICTURES[0].path
    assert [row["reliable"] for row in rows] == ["true", "false", "", ""]
    assert float(rows[0]["happy"]) == 0.6
    assert rows[3]["error"] == PICTURES[2].error


def test_a_table_says_which_faces_get_no_answer_where_some_may_get_none(tmp_path: Path) -> None:
    pictures = (Picture("two.jpg", 9, 9, (face(), face(abstained=True))), *PICTURES[1:])
    for name in ("a.csv", "a.parquet"):
        with writing_pictures(tmp_path / name, abstaining=True) as add:
            for picture in pictures:
                add(picture)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8"))))
    assert list(rows[0]) == list(picture_columns(abstaining=True))
    assert [row["abstained"] for row in rows] == ["false", "true", "", ""]
    stored = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert stored.column("abstained").to_pylist() == [False, True, None, None]


def test_parquet(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.to_pylist() == [row for picture in PICTURES for row in picture.to_rows()]
    assert [str(field.type) for field in table.schema][:5] == ["string", "int64", "int64", "int64", "int64"]
    write(tmp_path / "empty.parquet", ())
    assert pyarrow.parquet.read_table(tmp_path / "empty.parquet").num_rows == 0


def test_parquet_writes_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.face.writers.PARQUET_BATCH", 3)
    write(tmp_path / "a.parquet", PICTURES * 5)
    file = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet")
    assert (file.metadata.num_rows, file.num_row_groups) == (20, 7)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"mien\[report\]"):
        write(tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_streams_stay_open_and_equal_files(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    with writing_pictures(stream, kind) as add:
        for picture in PICTURES:
            add(picture)
    write(tmp_path / f"a.{kind}")
    assert stream.getvalue() == (tmp_path / f"a.{kind}").read_bytes()


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_an_interruption_keeps_the_rows_so_far(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        write(path, PICTURES[:1], KeyboardInterrupt())
    write(tmp_path / f"b.{ending}", PICTURES[:1])
    assert path.read_text() == "before"
    assert (tmp_path / f"a.{ending}.partial").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'\.jsn'.*Did you mean '\.json'"):
        write(tmp_path / "a.jsn")
    with pytest.raises(UnknownNameError, match="ending of an output file 'rows'"):
        write(tmp_path / "rows")
    with pytest.raises(UnknownNameError, match="unknown format 'xml'"), writing_pictures(io.BytesIO(), "xml"):
        pass
    assert not list(tmp_path.iterdir())


def test_unwritable_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*choose another place"):
        write(tmp_path / "file" / "a.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "folder.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
def test_a_full_disk_leaves_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text("before")

    def on_a_full_disk(place: object) -> tuple[int, Path]:
        return os.open("/dev/full", os.O_WRONLY), tmp_path / f"x.{ending}"

    monkeypatch.setattr("mien.files._create_temporary", on_a_full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        write(path, PICTURES * 100)
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_in_the_block_is_not_taken_for_a_failed_write(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(PermissionError):
        write(path, PICTURES[1:2], PermissionError(13, "another file"))
    assert json.loads((tmp_path / "a.json.partial").read_text()) == [PICTURES[1].to_json()]


def test_other_columns(tmp_path: Path) -> None:
    columns: dict[str, type] = {"frame": int, "time": float}
    for ending in ("csv", "parquet"):
        with writing_rows(tmp_path / f"a.{ending}", columns) as write:
            write({"frame": 0, "time": 0.04, "ignored": 1})
    assert (tmp_path / "a.csv").read_text() == "frame,time\n0,0.04\n"
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == [{"frame": 0, "time": 0.04}]
