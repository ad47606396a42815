"""Recipe -> run directory."""

from mien.training.augment import Augmentation
from mien.training.engine import train_one_epoch
from mien.training.fit import fit
from mien.training.progress import Progress

__all__ = ["Augmentation", "Progress", "fit", "train_one_epoch"]
