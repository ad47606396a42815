"""Nothing leaves the machine: no connection is asked for, and nothing is left in the user's home."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import onnxruntime
import pytest

# A recognizer in the main thread, in another one and in a spawned process, and long enough for the first report, which
# ONNX Runtime 1.32 sends after nine seconds.
RECOGNIZE = """
import multiprocessing, threading, time
import numpy as np

def recognize():
    from mien import Recognizer
    Recognizer("nano", "none").recognize(np.zeros((48, 48), np.uint8))

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=recognize)
    thread = threading.Thread(target=recognize)
    process.start(), thread.start(), recognize(), thread.join(), process.join()
    assert process.exitcode == 0
    time.sleep(11)
"""


@pytest.fixture
def asked() -> list[str]:
    """First lines of what was asked of the proxy that :func:`run` names."""
    return []


def run(script: str, folder: Path, asked: list[str], **variables: str) -> list[str]:
    """Run a script as a user's program without ``CI``; the files that it leaves in an empty home."""
    (home := folder / "home").mkdir()
    (folder / "script.py").write_text(script)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(200).decode(errors="replace").partition("\r")[0])

        threading.Thread(target=listen, daemon=True).start()
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "https_proxy": proxy, "HTTPS_PROXY": proxy}
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=folder, env=environment | variables,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


def test_recognizing_asks_for_no_connection_and_leaves_nothing_behind(tmp_path: Path, asked: list[str]) -> None:
    assert run(RECOGNIZE, tmp_path, asked) == []
    assert asked == []


@pytest.mark.skipif(
    sys.platform == "win32" or tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 29),
    reason="this ONNX Runtime has no telemetry of its own",
)
def test_without_the_switch_the_test_above_would_fail(tmp_path: Path, asked: list[str]) -> None:
    assert run("import mien, onnxruntime", tmp_path, asked, ORT_DISABLE_TELEMETRY="0") != []


def test_onnxruntime_imported_before_mien_is_told(tmp_path: Path, asked: list[str]) -> None:
    script = "import io, logging, onnxruntime\nlogging.basicConfig(stream=(said := io.StringIO()))\nimport mien\n"
    run(script + "assert 'import mien first' in said.getvalue(), said.getvalue()", tmp_path, asked)
