"""What a report says about the network, the machine and the versions."""

import copy
import os
import platform
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mien import __version__
from mien.models import FaceClassifier


def describe_network(classifier: FaceClassifier) -> dict[str, int]:
    """Number of parameters, and multiply-adds for one picture at the network's input size."""
    on_cpu = copy.deepcopy(classifier).cpu().eval()
    face = torch.zeros(1, 1, classifier.input_size, classifier.input_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_cpu(face)
    return {
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "macs": counter.get_total_flops() // 2,
    }


def describe_place(device: torch.device, processes: int) -> dict[str, Any]:
    """Device, machine, threads and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": name,
        "processes": processes,
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": torch.get_num_threads(),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "mien_version": __version__,
    }


def _processor() -> str:
    """Name of the processor, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
