import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mien.errors import ModelError, OutputError, RunError
from mien.face.detect import create_detector
from mien.files import RemoteFile, cache_folder, fetch, writing
from tests.face.drawn_yunet import yunet_bytes

CONTENT = b"weights" * 1000
FILE = RemoteFile("weights.onnx", "", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT")


class Server(BaseHTTPRequestHandler):
    """Serves ``content``, and breaks off, redirects or fails by the path."""

    content: ClassVar[bytes] = CONTENT
    calls: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.calls.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[:100] if self.path == "/broken" else self.content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Server, "content", CONTENT)
    Server.calls.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_fetched_once(server: str) -> None:
    file = replace(FILE, url=f"{server}/moved")
    path = fetch(file, "remedy")
    assert path == cache_folder() / "models" / file.name
    assert path.read_bytes() == CONTENT
    assert fetch(file, "remedy") == path
    assert Server.calls == ["/moved", "/whole"]
    assert [each.name for each in path.parent.iterdir()] == [file.name]


def test_a_damaged_file_is_fetched_again(server: str) -> None:
    file = replace(FILE, url=f"{server}/whole")
    path = fetch(file, "remedy")
    for damaged in (CONTENT[:-1], CONTENT[:-1] + b"!", b""):
        path.write_bytes(damaged)
        assert fetch(file, "remedy").read_bytes() == CONTENT
    assert len(Server.calls) == 4


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/missing", CONTENT, "could not be fetched from .*Not Found"),
        ("/whole", b"an error page", "sha256 .* got 13 bytes of another file"),
        ("/whole", CONTENT + b"!", "got more than 7000 bytes of another file"),
        ("/whole", CONTENT[:-1] + b"!", "got 7000 bytes of another file"),
        ("/broken", CONTENT, "got 100 bytes|could not be fetched"),
    ],
)
def test_what_is_not_the_file_is_not_kept(
    server: str, monkeypatch: pytest.MonkeyPatch, path: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr(Server, "content", content)
    file = replace(FILE, url=server + path)
    with pytest.raises(ModelError, match=rf"{message}.*; do this instead"):
        fetch(file, "do this instead")
    assert not (cache_folder() / "models").exists()


def test_offline(server: str) -> None:
    with pytest.raises(ModelError, match=r"weights\.onnx could not be fetched from http://127.*refused; do this"):
        fetch(replace(FILE, url="http://127.0.0.1:9/weights.onnx"), "do this")
    with pytest.raises(ModelError, match="could not be fetched"):
        fetch(replace(FILE, url="http://nowhere.invalid/weights.onnx"), "do this")
    with pytest.raises(ModelError, match="http or https"):
        fetch(replace(FILE, url="file:///etc/passwd"), "do this")


def test_a_cache_that_cannot_be_written(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot be kept.*MIEN_CACHE"):
        fetch(replace(FILE, url=f"{server}/whole"), "")


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MIEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mien"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "mien"


def test_yunet_is_fetched_at_its_first_use(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = yunet_bytes()
    monkeypatch.setattr(Server, "content", drawn)
    weights = RemoteFile("drawn.onnx", f"{server}/whole", hashlib.sha256(drawn).hexdigest(), len(drawn), "MIT")
    monkeypatch.setattr("mien.face.detect.yunet.WEIGHTS", weights)
    assert create_detector("yunet").name == create_detector("yunet").name == "yunet"
    assert Server.calls == ["/whole"]
    monkeypatch.setattr("mien.face.detect.yunet.WEIGHTS", replace(weights, name="other.onnx", url="http://127.0.0.1:9"))
    with pytest.raises(ModelError, match=r"refused; fetch .* elsewhere and give --detector yunet:FILE"):
        create_detector("yunet")


# The atomic writer


def write(path: Path, content: bytes, then: BaseException | None = None, **options: Any) -> None:
    with writing(path, **options) as file:
        file.write(content)
        if then is not None:
            raise then


def test_a_file_appears_when_it_is_whole_and_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with writing(path) as file:
        assert Path(file.name).parent == path.parent
        assert Path(file.name).suffix == ".bin"
        file.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("then", [KeyboardInterrupt(), ValueError("no"), None])
def test_after_an_error_the_old_file_stands_and_a_part_lies_beside_it(
    tmp_path: Path, then: BaseException | None
) -> None:
    path = tmp_path / "a"
    for partial in (False, True):
        path.write_bytes(b"old")
        with pytest.raises(type(then)) if then is not None else contextlib.nullcontext():
            write(path, b"new", then, partial=partial)
        assert path.read_bytes() == (b"new" if then is None else b"old")
        parts = {path.with_name("a.partial"): b"new"} if partial and then is not None else {}
        assert {each: each.read_bytes() for each in tmp_path.iterdir() if each != path} == parts


def test_a_file_without_content_is_kept_only_where_it_may_be_empty(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(b"old")
    write(path, b"", partial=True)
    write(path, b"", empty=False)
    assert path.read_bytes() == b"old"
    write(path, b"")
    assert path.read_bytes() == b""


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_who_may_read_a_file(tmp_path: Path, umask: int) -> None:
    for name, mode in (("private", 0o600), ("open", 0o666), ("told", 0o644)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    before = os.umask(umask)
    try:
        for name in ("new", "private", "open", "told"):
            write(tmp_path / name, b"new", **({"mode": 0o600} if name == "told" else {}))
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "private", b"half", KeyboardInterrupt(), partial=True)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    kept = {"private": 0o600, "private.partial": 0o600, "open": 0o666, "told": 0o600}
    assert modes == {"new": 0o666 & ~umask, **kept}


def test_a_folder_says_whose_its_files_are(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("root alone gives files away")
    (tmp_path / "a").touch()
    os.chown(tmp_path / "a", 12345, 12346)
    write(tmp_path / "a", b"new")
    assert ((tmp_path / "a").stat().st_uid, (tmp_path / "a").stat().st_gid) == (12345, 12346)


def test_a_links_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "whole").write_bytes(b"old")
    (tmp_path / "link").symlink_to("disk/whole")
    (tmp_path / "second").symlink_to("link")
    (tmp_path / "dangling").symlink_to("disk/new/first")
    (tmp_path / "circle").symlink_to("circle")
    write(tmp_path / "second", b"new")
    write(tmp_path / "dangling", b"first")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "link", b"half", KeyboardInterrupt(), partial=True)
    with pytest.raises(OutputError, match=r"circle: Too many levels"):
        write(tmp_path / "circle", b"new")
    assert all((tmp_path / name).is_symlink() for name in ("link", "second", "dangling", "circle"))
    assert (tmp_path / "disk" / "whole").read_bytes() == b"new"
    assert (tmp_path / "disk" / "whole.partial").read_bytes() == b"half"
    assert (tmp_path / "disk" / "new" / "first").read_bytes() == b"first"
    assert len(list((tmp_path / "disk").rglob("*"))) == 4
    write(tmp_path / "link", b"whole", partial=True)
    assert (tmp_path / "disk" / "whole").read_bytes() == b"whole"
    assert not (tmp_path / "disk" / "whole.partial").exists()


@pytest.mark.parametrize("streamed", [True, False])
def test_a_pipe_is_fed(tmp_path: Path, streamed: bool) -> None:
    os.mkfifo(path := tmp_path / "a.csv")
    (tmp_path / "link").symlink_to(path)
    got: list[bytes] = []
    for target in (path, tmp_path / "link"):
        reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
        reader.start()
        with writing(target, streamed=streamed) as file:
            file.write(b"rows\n" * 10_000)
        reader.join(timeout=60)
    assert got == 2 * [b"rows\n" * 10_000]
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("streamed", [True, False])
def test_a_device_without_room_is_one_line(tmp_path: Path, streamed: bool) -> None:
    (path := tmp_path / "a.csv").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"^cannot write .*a\.csv: No space left on device; free some space"):
        write(path, b"rows", streamed=streamed, partial=True)
    assert list(tmp_path.iterdir()) == [path]
    assert os.path.exists("/dev/full")


@pytest.mark.parametrize("name", ["n" * 247 + ".csv", "\N{SNOWMAN}" * 83 + ".csv", "n." + "e" * 253])
def test_the_longest_names_are_written(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, b"new")
    with pytest.raises(KeyboardInterrupt) as stopped:
        write(tmp_path / name, b"half", KeyboardInterrupt(), partial=True)
    (part,) = set(tmp_path.iterdir()) - {tmp_path / name}
    assert part.name.endswith(".partial")
    assert str(part) in stopped.value.__notes__[0]
    assert [(tmp_path / name).read_bytes(), part.read_bytes()] == [b"new", b"half"]
    with pytest.raises(OutputError, match=r"File name too long; choose a shorter name$"):
        write(tmp_path / (name + 5 * "n"), b"new")


def test_a_file_in_a_closed_folder_is_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "a.csv").write_bytes(b"yesterday's")
    access = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path and access(place, mode))
    before = path.stat().st_ino
    write(path, b"new")
    assert (path.read_bytes(), path.stat().st_ino) == (b"new", before)
    with pytest.raises(KeyboardInterrupt):
        write(path, b"half", KeyboardInterrupt(), partial=True)
    assert path.read_bytes() == b"new"


def test_a_file_that_is_mounted_is_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "a.csv").write_bytes(b"yesterday's")

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_protected_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "a.csv").write_bytes(b"kept")
    access = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: place != path and access(place, mode))  # root may do all
    with pytest.raises(OutputError, match=r"a\.csv: Permission denied; choose another place"):
        write(path, b"new")
    assert path.read_bytes() == b"kept"


def test_an_encoder_may_write_at_the_temporary_name(tmp_path: Path) -> None:
    with writing(tmp_path / "a.txt", partial=True) as file:
        Path(file.name).write_text("by another", encoding="utf-8")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "by another"


@pytest.mark.parametrize(("error", "remedy"), [(OutputError, "choose another place"), (RunError, "another --out")])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, error: Any, remedy: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder"):
        with pytest.raises(error, match=rf"^cannot write .*{remedy}$"):
            write(path, b"new", error=error)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("partial", [False, True])
def test_a_write_that_fails_is_told_whatever_a_library_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: bool
) -> None:
    monkeypatch.setattr(
        "mien.files._create_temporary", lambda place: (os.open("/dev/full", os.O_WRONLY), tmp_path / "x")
    )

    def archive() -> None:
        with writing(tmp_path / "a", partial=partial, error=RunError) as file:
            try:
                file.write(bytes(10**6))
            except OSError as failure:
                raise RuntimeError("unexpected position in the archive") from failure

    with pytest.raises(RunError, match=r"no room left to write .*--resume"):
        archive()
    assert not list(tmp_path.iterdir())


def test_an_error_that_is_not_about_the_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        write(tmp_path / "a", b"rows", PermissionError(13, "another file"), partial=True)
    assert (tmp_path / "a.partial").read_bytes() == b"rows"
