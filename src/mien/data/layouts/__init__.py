"""Layouts of labelled faces in the wild: name in a data spec -> how to tell it, and its reader.

To add one, write a file here whose reader gives ``FaceSamples`` and whose bad input ends in one ``DataError`` with
file, row and remedy, and add a line to ``LAYOUTS``; or leave the file where it is and name its reader as
``module:reader:PATH``. ``raw`` and ``tree`` do what readers share.
"""

from collections.abc import Callable
from typing import NamedTuple

from mien.data.layouts import class_folders, fer2013, jaffe, parquet_pictures
from mien.data.layouts.raw import ReadOptions
from mien.data.layouts.tree import Tree
from mien.data.samples import FaceSamples


class Layout(NamedTuple):
    """Whether a folder, zip or file is in a layout, by looking; and how the faces in it are read."""

    holds: Callable[[Tree], bool]
    read: Callable[[Tree, ReadOptions], FaceSamples]


LAYOUTS: dict[str, Layout] = {
    "folder": Layout(lambda tree: True, class_folders.read_folder),
    "fer2013": Layout(fer2013.is_fer2013, fer2013.read_fer2013),
    "parquet": Layout(parquet_pictures.is_parquet_pictures, parquet_pictures.read_parquet_pictures),
    "jaffe": Layout(jaffe.is_jaffe, jaffe.read_jaffe),
}
"""Name in a data spec (``NAME:PATH``) -> layout. A bare path gets the last one that holds it."""
