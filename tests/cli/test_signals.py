"""Signals that come at the worst moment."""

import signal
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


def test_ctrl_c_in_an_audit_ends_it_in_one_line() -> None:
    code = (
        "import sys; from mien.cli import main, shared; shared.SHOW_SECONDS = 0;"
        " sys.argv = ['mien', 'audit', '--data', 'synthetic:20000']; main()"
    )
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stderr is not None
    first = next(line for line in running.stderr if line.startswith("compared "))
    running.send_signal(signal.SIGINT)
    rest, (answer, _) = running.stderr.read(), running.communicate(timeout=60)
    assert (running.returncode, answer) == (130, "")
    assert " of 20,000 pictures, " in first
    assert rest.splitlines()[-1] == "mien: stopped"
    assert "Traceback" not in rest
