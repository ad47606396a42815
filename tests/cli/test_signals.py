"""Signals that come at the worst moment."""

import subprocess
import sys

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
