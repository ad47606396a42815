"""Memory that stays with the process between the passes of a network on the CPU, in training and evaluation.

PyTorch frees what a step held, and glibc gives large blocks back to the system at once. The next step asks for the same
memory again, and the system clears it page by page: on two cores up to a third of the time of a step
(docs/decisions/0011). Here glibc is told to keep what it has, so a process holds as much as its largest step needed.

Source: mallopt(3), ``M_MMAP_MAX`` and ``M_TRIM_THRESHOLD``.
"""

import ctypes
import platform

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the rest of this process; false where the C library is another one."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No block comes from the system by itself, and the heap never shrinks (-1).
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
