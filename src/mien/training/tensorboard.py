"""The rows of ``metrics.jsonl`` for TensorBoard."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_scalars(folder: Path, rows: Iterable[dict[str, Any]], step: int) -> None:
    """Add an epoch's rows as scalars ``split/name``; what an interrupted run wrote from ``step`` on is hidden."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=step) as writer:
        for row in rows:
            writer.add_scalar(f"{row['split']}/{row['name']}", row["value"], step)
