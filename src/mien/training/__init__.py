"""Recipe -> run directory."""

from mien.training.checks import Circumstances, check_networks, check_recipe
from mien.training.fit import agree, fit, is_first_process
from mien.training.progress import Progress
from mien.training.room import check_disk
from mien.training.setup import ShowPictures

__all__ = [
    "Circumstances",
    "Progress",
    "ShowPictures",
    "agree",
    "check_disk",
    "check_networks",
    "check_recipe",
    "fit",
    "is_first_process",
]
