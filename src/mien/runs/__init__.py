"""The run directory and its report; checkpoints lie in ``mien.runs.checkpoint``, which needs torch."""

from mien.runs.lock import locked
from mien.runs.report import OUR_DATA, Estimate, Report, SplitResult, Subset, load_report
from mien.runs.run import Look, MetricRow, Run, load_run

__all__ = [
    "OUR_DATA",
    "Estimate",
    "Look",
    "MetricRow",
    "Report",
    "Run",
    "SplitResult",
    "Subset",
    "load_report",
    "load_run",
    "locked",
]
