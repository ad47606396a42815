import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.data.layouts import csv_text, encode, subset, tree_files, write_files, write_zip

from mien.data import FaceSamples, ReadOptions, Split, read_samples, reading
from mien.data.cache import _store
from mien.data.layouts import LAYOUTS, Layout
from mien.data.layouts.tree import Tree
from mien.data.samples import RowSource, Usage
from mien.emotions import EMOTIONS
from mien.errors import CallError, DataError, MissingPathError
from mien.files import cache_folder


@pytest.fixture
def few(drawn: FaceSamples) -> FaceSamples:
    return subset(drawn, np.arange(20))


@pytest.fixture
def table(few: FaceSamples, tmp_path: Path) -> Path:
    path = tmp_path / "faces.csv"
    path.write_text(csv_text(few, ("emotion", "pixels", "Usage")), encoding="utf-8")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by a reader's name each time files are read, and not when the cache answers."""
    calls: list[str] = []

    def counted(name: str):  # type: ignore[no-untyped-def]
        layout = LAYOUTS[name]
        return layout._replace(read=lambda *given: calls.append(name) or layout.read(*given))

    monkeypatch.setattr(reading, "LAYOUTS", {name: counted(name) for name in LAYOUTS})
    return calls


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "data").iterdir())


# Data specs


def test_synthetic() -> None:
    assert read_samples("synthetic:70").name == "synthetic"
    assert len(read_samples("synthetic:70")) == 70


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("synthetic:many", "synthetic:N with a whole number"),
        ("synthetic:", "synthetic:N"),
        ("fer2031:/data", r"Did you mean 'fer2013'.*synthetic\[:N\], .*fer2013:PATH, folder:PATH, .* or a path"),
        ("s3:bucket", "unknown data 's3'"),
        ("fer2013:", "got nothing; write"),
        ("folder:", "got nothing; write"),
        ("", "got nothing; write"),
    ],
)
def test_calls_that_are_wrong(spec: str, message: str, cache: Path) -> None:
    with pytest.raises(CallError, match=message):
        read_samples(spec, cache=cache)


def test_drawn_faces_have_no_classes_to_map(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="leave it out"):
        read_samples("synthetic:70", ReadOptions(label_map=tmp_path / "map.toml"))


@pytest.mark.parametrize("spec", ["fer2013:{0}/none", "folder:{0}/none", "{0}/none"])
def test_missing_paths(spec: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(MissingPathError, match="none"):
        read_samples(spec.format(tmp_path), cache=cache)


def test_bare_paths_are_looked_at(few: FaceSamples, table: Path, tmp_path: Path, cache: Path, reads: list[str]) -> None:
    large = {f"train/{name}/a.png": encode(np.zeros((64, 64), np.uint8)) for name in ("happy", "anger")}
    paths = {
        table: "fer2013",
        write_zip(tmp_path / "a.zip", {"fer2013.csv": table.read_bytes()}): "fer2013",
        write_files(tmp_path / "large", large): "folder",
        write_zip(tmp_path / "large.zip", large): "folder",
        write_files(tmp_path / "drawn", tree_files(few)): "folder",
    }
    for path, reader in paths.items():
        read_samples(str(path), cache=cache)
        assert reads.pop() == reader, path
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: expected fer2013\.csv"):
        read_samples(str(tmp_path / "empty"), cache=cache)


def test_a_path_with_a_colon_is_a_path(few: FaceSamples, tmp_path: Path, cache: Path) -> None:
    root = write_files(tmp_path / "odd:name", tree_files(few))
    assert len(read_samples(str(root), cache=cache)) == 20
    assert len(read_samples(f"folder:{root}", cache=cache)) == 20


def test_options_reach_the_reader(tmp_path: Path, cache: Path) -> None:
    files = {"train/1/a.png": encode(np.zeros((50, 50), np.uint8)), "train/1/b.png": b"", "train/contempt/a.png": b""}
    write_files(tmp_path / "set", files)
    (tmp_path / "map.toml").write_text('1 = "fear"', encoding="utf-8")
    options = ReadOptions(skip_bad=True, skip_unmapped=True, label_map=tmp_path / "map.toml")
    found = read_samples(f"folder:{tmp_path / 'set'}", options, cache)
    assert found.labels.tolist() == [2]
    assert len(found.skipped) == 2
    assert read_samples(f"folder:{tmp_path / 'set'}", options, cache).skipped == found.skipped
    with pytest.raises(DataError):
        read_samples(f"folder:{tmp_path / 'set'}", cache=cache)


# The cache


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("MIEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/mien")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/mien")


def test_second_reading_comes_memory_mapped_from_the_cache(table: Path, cache: Path, reads: list[str]) -> None:
    first = read_samples(f"fer2013:{table}", cache=cache)
    second = read_samples(f"fer2013:{table}", cache=cache)
    assert reads == ["fer2013"]
    assert isinstance(second.images, np.memmap)
    assert second.content_sha256() == first.content_sha256()
    assert (second.name, second.row_source, second.usages.tolist()) == (
        first.name,
        first.row_source,
        first.usages.tolist(),
    )


def test_nobody_else_may_read_the_pictures_in_the_cache(table: Path, cache: Path) -> None:
    before = os.umask(0o022)
    try:
        read_samples(str(table), cache=cache)
    finally:
        os.umask(before)
    (entry,) = entries(cache)
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600


def test_a_change_of_the_file_is_seen_and_the_old_entry_goes(table: Path, cache: Path, reads: list[str]) -> None:
    old = read_samples(str(table), cache=cache)
    text = table.read_text(encoding="utf-8")
    table.write_text(text[: text.rindex("\n", 0, -1) + 1], encoding="utf-8")
    assert len(read_samples(str(table), cache=cache)) == 19
    assert len(reads) == 2
    assert len(entries(cache)) == 1
    assert old.images.sum() > 0  # what is mapped stays readable


def test_changes_in_folders_are_seen(few: FaceSamples, tmp_path: Path, cache: Path, reads: list[str]) -> None:
    root = write_files(tmp_path / "set", tree_files(few))
    pool = write_files(tmp_path / "pool", {"a.png": encode(few.images[0])})
    (root / "train/surprised").symlink_to(pool)
    assert len(read_samples(f"folder:{root}", cache=cache)) == 21
    (pool / "b.png").write_bytes(encode(few.images[1]))
    assert len(read_samples(f"folder:{root}", cache=cache)) == 22
    victim = pool / "a.png"
    content = encode(few.images[2]).ljust(len(victim.read_bytes()), b"\0")
    os.utime(victim, ns=(1, 1))
    victim.write_bytes(content)
    read_samples(f"folder:{root}", cache=cache)
    assert len(reads) == 3


def test_options_and_kind_make_entries_of_their_own(
    few: FaceSamples, tmp_path: Path, cache: Path, reads: list[str]
) -> None:
    root = write_files(tmp_path / "set", tree_files(few))
    read_samples(f"folder:{root}", cache=cache)
    read_samples(f"fer2013:{root}", cache=cache)
    read_samples(f"fer2013:{root}", ReadOptions(skip_bad=True), cache)
    assert reads == ["folder", "fer2013", "fer2013"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content, notes: b"",
        lambda content, notes: b"junk",
        lambda content, notes: content[:1000],
        lambda content, notes: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],  # a pixel
        lambda content, notes: content[: notes - 1] + bytes([content[notes - 1] ^ 1]) + content[notes:],  # a usage
        lambda content, notes: content[: notes - 100] + content[notes:],
        lambda content, notes: content[:notes],
        lambda content, notes: content[:notes] + b"{",
        lambda content, notes: content[:notes] + b"{}",
        lambda content, notes: content[:notes] + b"[]",
    ],
)
def test_a_damaged_entry_is_replaced(damage, table: Path, cache: Path, reads: list[str]) -> None:  # type: ignore[no-untyped-def]
    whole = read_samples(str(table), cache=cache).content_sha256()
    entry = entries(cache)[0]
    content = entry.read_bytes()
    entry.write_bytes(damage(content, content.rindex(b"{")))
    for _ in range(2):
        assert read_samples(str(table), cache=cache).content_sha256() == whole
    assert len(reads) == 2
    assert entries(cache) == [entry]


def test_a_cache_that_cannot_be_written_is_a_warning(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert len(read_samples(str(table), cache=blocked)) == 20
    assert "cannot be kept" in caplog.text
    assert "MIEN_CACHE" in caplog.text


def test_without_a_home_there_is_no_cache(
    table: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MIEN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert len(read_samples(str(table))) == 20
    assert "cannot be kept" in caplog.text
    assert "MIEN_CACHE" in caplog.text


def test_a_full_disk_leaves_nothing_behind(
    table: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert len(read_samples(str(table), cache=cache)) == 20
    assert "No space left" in caplog.text
    assert entries(cache) == []


def test_processes_may_read_at_once(table: Path, cache: Path) -> None:
    code = (
        "import sys, pathlib; from mien.data import read_samples;"
        "print(read_samples(sys.argv[1], cache=pathlib.Path(sys.argv[2])).content_sha256())"
    )
    command = [sys.executable, "-c", code, str(table), str(cache)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    answers = {process.communicate(timeout=60) for process in processes}
    assert answers == {(read_samples(str(table), cache=cache).content_sha256() + "\n", "")}
    assert [path.name.startswith(".") for path in entries(cache)] == [False]


def test_what_a_killed_process_or_an_older_version_left_is_removed(table: Path, cache: Path) -> None:
    read_samples(str(table), cache=cache)
    (entry,) = entries(cache)
    left, young = (entry.with_name(f".{entry.name}.{name}.npy") for name in ("left", "young"))
    for file in (left, young):
        file.write_bytes(b"half")
    os.utime(left, (0, 0))
    entry.unlink()
    (folder := entry.with_suffix("")).mkdir()
    (folder / "images.npy").touch()
    read_samples(str(table), cache=cache)
    assert sorted(entries(cache)) == sorted([entry, young])


def test_a_file_that_is_being_written_is_known_by_its_lock(table: Path, cache: Path) -> None:
    read_samples(str(table), cache=cache)
    (entry,) = entries(cache)
    scratch = entry.with_name(".other-1-ab.npy")  # of other data
    code = (
        "import sys, numpy, pathlib; from mien.data import pictures; pictures.IN_MEMORY = 0\n"
        "with pictures.PictureStore(9, (8, 8), pathlib.Path(sys.argv[1])) as store:\n"
        "    store.add(numpy.zeros((9, 8, 8), 'uint8')); found = store.finish()\n"
        "print('written', flush=True); sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(scratch)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    os.utime(scratch, (0, 0))
    read_samples(str(table), cache=cache)
    assert entries(cache) == sorted([entry, scratch])
    writer.kill()
    writer.communicate(timeout=60)
    read_samples(str(table), cache=cache)  # from the cache
    assert entries(cache) == [entry]


def test_an_entry_may_be_stored_many_times_at_once(table: Path, cache: Path) -> None:
    found = read_samples(str(table), cache=cache)
    entry = entries(cache)[0]
    with ThreadPoolExecutor(8) as pool:
        for stored in [pool.submit(_store, found, entry) for _ in range(400)]:
            stored.result()
    assert entries(cache) == [entry]
    assert read_samples(str(table), cache=cache).content_sha256() == found.content_sha256()


def test_an_entry_that_appeared_meanwhile_is_no_obstacle(table: Path, cache: Path) -> None:
    found = read_samples(str(table), cache=cache)
    _store(found, entries(cache)[0])
    assert len(entries(cache)) == 1
    assert read_samples(str(table), cache=cache).content_sha256() == found.content_sha256()


# A layout of one's own: one file and one line in a table


class Tiles:
    """``tiles.txt`` of lines such as ``happy``: a face as large as the label for each."""

    @staticmethod
    def holds(tree: Tree) -> bool:
        return "tiles.txt" in tree.names

    @staticmethod
    def read(tree: Tree, options: ReadOptions) -> FaceSamples:
        lines = (tree.path / "tiles.txt").read_text(encoding="utf-8").split()
        labels = np.array([EMOTIONS.index(line) for line in lines], np.int8)
        rows = np.arange(len(lines), dtype=np.int32)
        images = np.broadcast_to(labels.astype(np.uint8)[:, None, None], (len(lines), 48, 48))
        usages = np.full(len(lines), Usage.TRAINING, np.int8)
        return FaceSamples(images, labels, rows, usages, "tiles", RowSource.FILE)


def test_a_layout_is_a_line_in_the_table(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "set", {"tiles.txt": b"happy sad", "train/fear/a.png": encode(np.zeros((50, 50), np.uint8))})
    assert read_samples(str(tmp_path / "set"), cache=cache).name == "folder:set"
    monkeypatch.setitem(LAYOUTS, "tiles", Layout(Tiles.holds, Tiles.read))
    for spec in ("{}", "tiles:{}", "{}"):
        found = read_samples(spec.format(tmp_path / "set"), cache=cache)
        assert found.name == "tiles"
        assert found.labels.tolist() == [3, 4]
        assert found.split(Split.TRAINING).tolist() == [0, 1]
    with pytest.raises(CallError, match="Did you mean 'tiles'"):
        read_samples("tilez:nothing", cache=cache)
