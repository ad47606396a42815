"""Arrays that take long to compute, kept in the user's cache by what they follow from."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import errors, files

logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]


def remember_arrays(
    kind: str, follows_from: Sequence[object], rows: NDArray[np.integer], compute: Callable[[], Arrays]
) -> Arrays:
    """Arrays by name: from the cache, or computed and stored there. A damaged entry is replaced.

    Args:
        kind: folder of the cache.
        follows_from: texts and numbers on which the arrays depend.
        rows: row numbers of the pictures on which they depend, ``(N,)``.
        compute: what to do where they are not kept.
    """
    key = hashlib.sha256(json.dumps(list(follows_from)).encode() + rows.astype("<i4").tobytes()).hexdigest()
    kept = files.cache_folder() / kind / f"{key}.npz"
    try:
        with np.load(kept) as stored:
            return dict(stored)
    except FileNotFoundError:
        pass
    except Exception as error:  # np.load raises almost anything on damaged files
        logger.warning("%s: a damaged cache entry is replaced (%s)", kept, error)
    arrays = compute()
    try:
        with files.writing(kept, mode=0o600) as file:  # the user's pictures are for the user
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except errors.OutputError as error:
        logger.warning("%s cannot be kept for next time: %s (MIEN_CACHE names the cache)", kind, error)
    return arrays
