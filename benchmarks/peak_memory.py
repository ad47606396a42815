"""Run a command and print the most memory that one of its processes held, in bytes.

    python benchmarks/peak_memory.py COMMAND...

The command's own output goes to stderr. A process begins with its parent's peak on Linux, so this one imports
nothing large, and whoever measures goes through it.
"""

import resource
import subprocess
import sys


def main(command: list[str]) -> int:
    """Run ``command``, print the peak, return the exit code."""
    code = subprocess.run(command, stdout=sys.stderr).returncode
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(peak if sys.platform == "darwin" else 1024 * peak)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
