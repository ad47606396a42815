"""What the machine is, and the most arithmetic that it does in a second."""

import os
import time

import torch

from mien.training.finish import describe_environment

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
"""Large enough that the product is limited by arithmetic, by type of device."""

PRODUCTS = 5
"""Matrix products of one measurement."""


def describe_machine(device: torch.device) -> list[str]:
    """Lines on hardware, versions and the present load."""
    place = describe_environment(device, processes=1)
    lines = [f"{place['machine']}; Python {place['python_version']}"]
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        lines.append(f"GPU: {place['device']}, {memory / 2**30:.0f} GiB; CUDA {torch.version.cuda}")
    lines.append(f"torch {place['torch_version']}, {place['threads']} threads; instructions: {_instructions()}")
    if hasattr(os, "getloadavg"):
        lines.append(f"load average when the measurement began: {os.getloadavg()[0]:.1f}")
    return lines


def matrix_product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of square matrix products, multiplications and additions both counted: the best of ``PRODUCTS``."""
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    a @ b
    best = 0.0
    for _ in range(PRODUCTS):
        _wait(device)
        start = time.perf_counter()
        a @ b
        _wait(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def _instructions() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
