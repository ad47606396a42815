"""Video: frames in; tracks, smoothed emotions, annotated frames and plots out."""

from mien.face.video.drawing import FrameDrawing
from mien.face.video.plots import TrackPlots
from mien.face.video.reading import Choice, VideoReader
from mien.face.video.recognition import recognize_video
from mien.face.video.tracks import SMOOTHING_SECONDS, FaceFollower
from mien.face.video.writing import check_video_name, writing_video

__all__ = [
    "SMOOTHING_SECONDS", "Choice", "FaceFollower", "FrameDrawing", "TrackPlots", "VideoReader", "check_video_name",
    "recognize_video", "writing_video",
]  # fmt: skip
