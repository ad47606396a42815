"""Labelled faces: the value type, its splits, and the readers."""

from mien.data._index import unseen_rows
from mien.data.ferplus import read_votes, votes_on
from mien.data.reading import ReadOptions, read_samples
from mien.data.samples import FaceSamples, Protocol, Split
from mien.data.synthetic import DrawnFaces, draw_faces
from mien.face.cache import cache_folder

__all__ = [
    "DrawnFaces",
    "FaceSamples",
    "Protocol",
    "ReadOptions",
    "Split",
    "cache_folder",
    "draw_faces",
    "read_samples",
    "read_votes",
    "unseen_rows",
    "votes_on",
]
