"""Signals that come at the worst moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data.layouts import encode, write_files

PRINTING = """
import itertools, os, signal, threading, time
from mien.cli.shared import catching_signals, messages

def send():
    for _ in range(1000):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.0003)

with catching_signals() as stop_signal:
    sender = threading.Thread(target=send)
    sender.start()
    while sender.is_alive():
        messages.print("a line of progress")
print(stop_signal())
"""


def test_signals_are_noted_in_the_middle_of_a_print() -> None:
    # Within a print, a handler that prints as well dies of a RuntimeError: reentrant call.
    done = subprocess.run([sys.executable, "-c", PRINTING], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "15\n"), done.stderr[-2000:]
    assert "stopping after this step ..." in done.stderr


READING = """
import signal, sys
from mien.cli import main, shared
from mien.data import pictures
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
shared.SHOW_SECONDS = pictures.IN_MEMORY = 0
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_first_reading_that_is_stopped_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    content = encode(np.zeros((8, 8), np.uint8))
    write_files(tmp_path / "set", {f"train/{name}/{i}.png": content for name in "ab" for i in range(1000)})
    command = ["data", f"folder:{tmp_path / 'set'}", "--set", "data.size=700"]
    with subprocess.Popen(
        [sys.executable, "-c", READING, *command], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "MIEN_CACHE": str(tmp_path / "cache")},
    ) as running:  # fmt: skip
        assert running.stderr is not None
        assert running.stderr.readline().startswith("read ")
        assert len(list((tmp_path / "cache/data").iterdir())) == 1
        running.send_signal(number)
        *_, last = running.stderr.read().splitlines()
    assert (running.returncode, last) == (128 + number, "mien: stopped")
    assert list((tmp_path / "cache/data").iterdir()) == []


def test_ctrl_c_in_an_audit_ends_it_in_one_line() -> None:
    code = (
        "import signal, sys, time; from mien.cli import main, shared; shared.SHOW_SECONDS = 0;"
        " say = shared.messages.print;"
        " wait = lambda text: [time.sleep(0.1) for _ in range(600 if text.startswith('compared') else 0)];"
        " shared.messages.print = lambda text: (say(text), wait(text));"
        " signal.signal(signal.SIGINT, signal.default_int_handler);"  # what runs in the background ignores it
        " sys.argv = ['mien', 'audit', '--data', 'synthetic:2000']; main()"
    )
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stderr is not None
    first = next(line for line in running.stderr if line.startswith("compared "))
    running.send_signal(signal.SIGINT)
    rest, (answer, _) = running.stderr.read(), running.communicate(timeout=60)
    assert (running.returncode, answer) == (130, "")
    assert " of 2,000 pictures, " in first
    assert rest.splitlines()[-1] == "mien: stopped"
    assert "Traceback" not in rest
