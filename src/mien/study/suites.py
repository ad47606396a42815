"""Which recipes that mien brings make a suite."""

from pathlib import Path

from mien.errors import look_up
from mien.recipe import BASE, recipes_folder

SUITES: dict[str, str] = {
    "published": "the four models of the published study, as published",
    "controlled": "same data, augmentation, optimizer, epochs and input size, so that only the architecture differs",
    "transfer": "ImageNet weights or none, crossed with attention or none: whether each helps, and both together",
    "ablation": "one idea at a time on the smallest network, against learning from labels alone",
    "smoke": "four small networks on drawn faces: shows in two minutes that everything works",
}
"""Name -> what it is for; its recipes are the files in the folder of this name."""


def suite_recipes(suite: str) -> list[Path]:
    """The recipe files of a suite, by name; not those that are only there to be extended.

    Raises:
        UnknownNameError: no such suite.
    """
    look_up(SUITES, suite, "suite")
    return sorted(path for path in (recipes_folder() / suite).glob("*.toml") if not path.name.startswith(BASE))
