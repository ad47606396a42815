"""Recipe -> run directory."""

from mien.training.fit import agree, fit, is_first_process
from mien.training.networks import check_inputs
from mien.training.progress import Progress

__all__ = ["Progress", "agree", "check_inputs", "fit", "is_first_process"]
