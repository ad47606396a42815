"""Labelled faces: the value type, its splits, and the readers."""

from mien.data.ferplus import read_votes, votes_on
from mien.data.index import unseen_rows
from mien.data.layouts.raw import ReadOptions
from mien.data.reading import read_samples
from mien.data.samples import FaceSamples, Protocol, Split
from mien.data.synthetic import draw_faces

__all__ = [
    "FaceSamples", "Protocol", "ReadOptions", "Split", "draw_faces", "read_samples", "read_votes",
    "unseen_rows", "votes_on",
]  # fmt: skip
