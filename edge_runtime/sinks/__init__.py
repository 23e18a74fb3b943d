"""Write results: mask files, pictures, videos, a window, JSON Lines, other programs; every write is checked."""

from __future__ import annotations

from edge_runtime.sinks.files import MaskFiles, PictureFiles, PictureSink
from edge_runtime.sinks.folder import prepare_folder
from edge_runtime.sinks.outputs import OutputOptions, Outputs, Written, open_outputs
from edge_runtime.sinks.ownership import check_apart, check_file, check_folder
from edge_runtime.sinks.raw import RawFrames
from edge_runtime.sinks.records import JsonLines, frame_record
from edge_runtime.sinks.retention import Retention
from edge_runtime.sinks.video import VIDEO_SUFFIX, VideoFile, VideoFiles
from edge_runtime.sinks.virtual_camera import VirtualCamera, check_virtual_camera
from edge_runtime.sinks.window import Window, check_display

__all__ = [
    "VIDEO_SUFFIX",
    "JsonLines",
    "MaskFiles",
    "OutputOptions",
    "Outputs",
    "PictureFiles",
    "PictureSink",
    "RawFrames",
    "Retention",
    "VideoFile",
    "VideoFiles",
    "VirtualCamera",
    "Window",
    "Written",
    "check_apart",
    "check_display",
    "check_file",
    "check_folder",
    "check_virtual_camera",
    "frame_record",
    "open_outputs",
    "prepare_folder",
]
