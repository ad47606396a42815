"""Recipe -> run directory."""

from mien.training.augment import Augmentation
from mien.training.engine import train_one_epoch
from mien.training.fit import fit, is_first_process
from mien.training.progress import Progress
from mien.training.start import check_inputs

__all__ = ["Augmentation", "Progress", "check_inputs", "fit", "is_first_process", "train_one_epoch"]
