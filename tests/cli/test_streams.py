"""What the command line makes of stdout, stderr, odd names and signals that are not as one hopes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.cli.test_predict import call
from tests.face.tiny_network import band, write_network

from mien.cli import output, shared

COMMAND = [sys.executable, "-m", "mien"]


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A picture, and a network that names it."""
    Image.fromarray(band("happy")).save(tmp_path / "a.png")
    network = write_network(tmp_path / "tiny.onnx")
    return ["predict", str(tmp_path / "a.png"), "--detector", "none", "--model", str(network)]


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([*COMMAND, *arguments], stderr=subprocess.PIPE, timeout=120, check=False, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [([], {}), (["--format", "table"], {}), (["--format", "csv"], {"PYTHONUNBUFFERED": "1"})],
)
def test_a_full_stdout_is_one_line(options: list[str], arguments: list[str], environment: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*options, *arguments, stdout=full, env={**os.environ, **environment})
    assert done.returncode == 1
    assert done.stderr.startswith(b"mien: cannot write to stdout: No space left on device")
    assert done.stderr.count(b"\n") == 1


def close_stdout() -> None:
    os.close(1)


def test_a_stdout_that_was_closed(options: list[str], tmp_path: Path) -> None:
    done = run(*options, preexec_fn=close_stdout)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"cannot write to stdout" in done.stderr
    done = run(*options, "--out", str(tmp_path / "rows.csv"), preexec_fn=close_stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "rows.csv").read_bytes().startswith(b"path,width,")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "utf-16"])
def test_a_table_in_any_encoding(options: list[str], tmp_path: Path, encoding: str) -> None:
    odd = os.path.join(os.fsencode(tmp_path), "\N{SNOWMAN}\N{GRINNING FACE}".encode() + b"\xff.png")
    Image.fromarray(band("sad")).save(os.fsdecode(odd))
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": "200"}
    done = run(options[0], os.fsdecode(odd), *options[1:], "--format", "table", stdout=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert ("\N{SNOWMAN}" in shown) == ("#" not in shown) == encoding.startswith("utf")
    assert "happy" in shown


def test_signs_that_an_encoding_lacks() -> None:
    text = "\N{FULL BLOCK}\N{LIGHT SHADE} 71\N{NO-BREAK SPACE}%\N{SNOWMAN}\udcff"
    with output.standard_streams():
        assert text.encode("ascii", output.ERRORS) == b"#. 71 %?\\xff"
        assert "\N{EN DASH}\N{CHECK MARK}".encode("cp1252", output.ERRORS) == "\N{EN DASH}+".encode("cp1252")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a:heart:b  c", "a:heart:b  c"),
        ("[bold]a", "[bold]a"),
        ("a\x1b[2Jb\x07", r"a\x1b[2Jb\x07"),
        ("a\rb\tc", r"a\rb\tc"),
        ("a\N{RIGHT-TO-LEFT OVERRIDE}gpj", r"a\u202egpj"),
    ],
)
def test_names_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str, shown: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (b"no picture", None):
        Path(name).write_bytes(content or b"")
        if content is None:
            Image.fromarray(band("happy")).save(name, "PNG")
        network = write_network(tmp_path / "tiny.onnx")
        arguments = (name, "--format", "table", "--detector", "none", "--model", network)
        assert call(monkeypatch, "predict", *arguments) == (0 if content is None else 1)
        told = capfd.readouterr()
        assert shown in told.out
        assert content is None or f"mien: {shown}: " in told.err
    shared.messages.print(name)
    shared.print_answer({}, shared.create_table(name, [name], []), "table")
    told = capfd.readouterr()
    assert "\t" in name or (shown in told.err and shown in told.out)


@pytest.mark.parametrize(
    "arguments", [["predict", ""], ["predict", "a.png", "--out", ""], ["predict", "a.png", "--model="], ["models", ""]]
)
def test_an_empty_argument_is_a_wrong_call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    assert "empty argument" in capfd.readouterr().err


SLOW = """
import signal, sys, time
from mien.cli import main
from mien.face.recognizer import Recognizer
stream = Recognizer.stream
def slowly(self, images):
    for picture in stream(self, images):
        yield picture
        print("one", flush=True)
        time.sleep(20)
Recognizer.stream = slowly
if "nohup" in sys.argv:
    sys.argv.remove("nohup")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    time.sleep = lambda seconds: signal.raise_signal(signal.SIGHUP)
else:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup themselves
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_leaves_the_old_result_and_a_part_beside_it(
    options: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    (rows := tmp_path / "rows.jsonl").write_text("yesterday's\n")
    call = [sys.executable, "-c", SLOW, *options, options[1], "--out", str(rows)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"one\n"
        running.send_signal(number)
        _, told = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert told.decode() == f"mien: stopped; what was written until then is in {rows}.partial\n"
    assert rows.read_text() == "yesterday's\n"
    assert (tmp_path / "rows.jsonl.partial").read_bytes().count(b"\n") == 1
    assert sorted(path.name for path in tmp_path.glob("*rows*")) == ["rows.jsonl", "rows.jsonl.partial"]


def test_a_hangup_is_survived_where_nohup_says_so(options: list[str], tmp_path: Path) -> None:
    call = [sys.executable, "-c", SLOW, "nohup", *options, options[1], "--out", str(tmp_path / "rows.jsonl")]
    assert subprocess.run(call, capture_output=True, timeout=120, check=False).returncode == 0
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == 2
