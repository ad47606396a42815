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
def test_after_an_error_the_old_file_stands_or_what_was_written_until_then(
    tmp_path: Path, then: BaseException | None
) -> None:
    for partial in (False, True):
        (path := tmp_path / "a").write_bytes(b"old")
        with pytest.raises(type(then)) if then is not None else contextlib.nullcontext():
            write(path, b"new", then, partial=partial)
        assert path.read_bytes() == (b"new" if partial or then is None else b"old")
        assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_content_is_kept_only_where_it_may_be_empty(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(b"old")
    write(path, b"", partial=True)
    write(path, b"", empty=False)
    assert path.read_bytes() == b"old"
    write(path, b"")
    assert path.read_bytes() == b""


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_is_for_all_to_read_unless_told_otherwise(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "a", b"new")
        (tmp_path / "b").touch(0o644)
        write(tmp_path / "b", b"new", mode=0o600)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o644, 0o600]


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
        "mien.files.tempfile.mkstemp", lambda dir, prefix, suffix: (os.open("/dev/full", os.O_WRONLY), str(dir / "x"))
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
    assert (tmp_path / "a").read_bytes() == b"rows"
