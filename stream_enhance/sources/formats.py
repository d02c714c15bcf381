"""What a recording may be: suffixes by which files are found, and the schemes of URLs."""

from __future__ import annotations

SCHEMES = {"rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "srt"}
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv"}
VIDEOS |= {".asf", ".flv", ".ogv", ".3gp", ".mxf", ".dav", ".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg"}
VIDEOS |= {".gif", ".y4m", ".nut", ".rm", ".f4v", ".dv"}
