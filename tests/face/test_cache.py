import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from tests.face.drawn_yunet import yunet_bytes

from mien.errors import ModelError
from mien.face.cache import RemoteFile, cache_folder, cached_path, fetch
from mien.face.detect import create_detector

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
    assert path == cached_path(file)
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
        ("/whole", b"an error page", "sha256 .* came 13 bytes of another file"),
        ("/whole", CONTENT + b"!", "came more than 7000 bytes of another file"),
        ("/whole", CONTENT[:-1] + b"!", "came 7000 bytes of another file"),
        ("/broken", CONTENT, "came 100 bytes|could not be fetched"),
    ],
)
def test_what_is_not_the_file_is_not_kept(
    server: str, monkeypatch: pytest.MonkeyPatch, path: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr(Server, "content", content)
    file = replace(FILE, url=server + path)
    with pytest.raises(ModelError, match=rf"{message}.*; do this instead"):
        fetch(file, "do this instead")
    assert not cached_path(file).parent.exists()


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
    with pytest.raises(ModelError, match=r"cannot be kept .*set MIEN_CACHE"):
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
    with pytest.raises(ModelError, match=r"refused; fetch .* elsewhere and name the detector yunet:FILE"):
        create_detector("yunet")
