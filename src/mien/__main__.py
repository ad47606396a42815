"""``python -m mien``, as ``torchrun -m mien`` needs it."""

from mien.cli import main

if __name__ == "__main__":
    main()
