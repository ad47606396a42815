"""JAFFE as it is published: one folder of pictures that tell person and emotion by their names, ``KA.AN1.39.tiff``.

Source: Lyons, Akamatsu, Kamachi, Gyoba 1998, "Coding facial expressions with Gabor wavelets",
doi:10.1109/AFGR.1998.670949; 213 pictures of ten women.
"""

from pathlib import PurePosixPath

from mien.data import samples
from mien.data.layouts import class_folders, raw
from mien.data.layouts.subjects import subject_of
from mien.data.layouts.tree import Tree
from mien.emotions import label_of
from mien.errors import DataError

EMOTION_CODES = {
    "AN": "angry", "DI": "disgust", "FE": "fear", "HA": "happy", "SA": "sad", "SU": "surprise", "NE": "neutral",
}  # fmt: skip


def is_jaffe(tree: Tree) -> bool:
    """Whether all pictures are called as JAFFE's are, and lie in no class folders."""
    names = [name for name in tree.names if class_folders.is_picture(name)]
    return bool(names) and all(
        _emotion(name) is not None and label_of(PurePosixPath(name).parent.name) is None for name in names
    )


def read_jaffe(tree: Tree, options: raw.ReadOptions) -> samples.FaceSamples:
    """The pictures of the folder or zip, all of them a test; stored as those of class folders.

    Raises:
        DataError: a picture with another name, none at all, or a bad one.
    """
    pictures = []
    for name in filter(class_folders.is_picture, tree.names):
        emotion = _emotion(name)
        if emotion is None:
            raise DataError(
                f"{tree.place(name)}: expected a name such as KA.AN1.39.tiff (person, emotion, number), got"
                f" {PurePosixPath(name).name!r}; leave the file out, or read class folders as folder:PATH"
            )
        pictures.append(class_folders.ListedPicture(name, emotion, None))
    return class_folders.read_listed(tree, pictures, raw.class_names(options.label_map), options, samples.SEVEN)


def _emotion(name: str) -> str | None:
    stem = PurePosixPath(name).name
    return None if subject_of(stem) is None or stem[2] != "." else EMOTION_CODES[stem[3:5]]
