"""Recipe -> run directory."""

from mien.training.fit import fit, is_first_process
from mien.training.networks import check_inputs
from mien.training.progress import Progress

__all__ = ["Progress", "check_inputs", "fit", "is_first_process"]
