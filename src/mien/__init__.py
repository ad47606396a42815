"""mien: train, compare and explain facial-emotion networks, and recognize emotions with the best of them."""

__version__ = "0.1.0"
