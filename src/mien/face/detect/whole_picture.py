"""No search: the picture is a face, as in FER-2013 and in folders of crops."""

import numpy as np
from numpy.typing import NDArray

from mien.face.crop import FRAMINGS
from mien.face.detect._detection import Detection
from mien.face.pictures import check_picture
from mien.face.result import Box


class WholePicture:
    """Detector ``none``."""

    name = "none"
    framing = FRAMINGS["none"]

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """One face, which is the whole picture, with confidence 1.

        Raises:
            MediaError: not a uint8 picture.
        """
        check_picture(picture)
        height, width = picture.shape[:2]
        return [Detection(Box(0, 0, width, height), 1.0)]
