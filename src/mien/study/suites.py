"""Where the recipes lie, and which of them make a suite."""

from pathlib import Path

from mien.errors import MissingPathError, look_up

SUITES: dict[str, str] = {
    "published": "the four models of the published study, as published",
    "controlled": "same data, augmentation, optimizer, epochs and input size, so that only the architecture differs",
    "transfer": "ImageNet weights or none, crossed with attention or none: whether each helps, and both together",
    "ablation": "one idea at a time on the smallest network, against learning from labels alone",
    "smoke": "the four models, small and short, on drawn faces: shows in minutes that everything works",
}
"""Name -> what it is for; its recipes are the files in the folder of this name."""


def recipes_folder() -> Path:
    """The folder of the recipes: in the package where it is installed, beside it in a checkout.

    Raises:
        MissingPathError: neither is there.
    """
    installed = Path(__file__).parents[1] / "recipes"
    checkout = Path(__file__).parents[3] / "recipes"
    for folder in (installed, checkout):
        if folder.is_dir():
            return folder
    raise MissingPathError(f"no recipes in {installed}; install mien again")


def suite_recipes(suite: str) -> list[Path]:
    """The recipe files of a suite, by name.

    Raises:
        UnknownNameError: no such suite.
    """
    look_up(SUITES, suite, "suite")
    return sorted((recipes_folder() / suite).glob("*.toml"))


def find_recipe(name: str) -> Path:
    """The recipe file at a path, or of a name below the recipes' folder such as ``published/baseline_cnn``.

    Raises:
        MissingPathError: there is none; lists those that mien brings.
    """
    for path in (Path(name), recipes_folder() / f"{name}.toml"):
        if path.is_file():
            return path
    folder = recipes_folder()
    known = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.toml"))
    raise MissingPathError(f"no recipe at {name}; mien brings: {', '.join(known)}")
