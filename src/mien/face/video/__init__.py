"""Video: frames in; tracks, smoothed emotions, annotated frames and figures out."""

from mien.face.video.drawing import FrameDrawing
from mien.face.video.figures import TrackFigures
from mien.face.video.following import SMOOTHING_SECONDS, FaceFollower
from mien.face.video.reading import VideoReader
from mien.face.video.recognition import recognize_video
from mien.face.video.writing import check_video_name, writing_video

__all__ = [
    "SMOOTHING_SECONDS",
    "FaceFollower",
    "FrameDrawing",
    "TrackFigures",
    "VideoReader",
    "check_video_name",
    "recognize_video",
    "writing_video",
]
