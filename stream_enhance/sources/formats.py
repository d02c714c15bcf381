"""What a source may be: suffixes by which files are found, URL schemes, and the demuxers that may read it.

Demuxers are FFmpeg's names.  Those that open other files or hosts by what they read (concat, HLS and DASH playlists,
SDP, image sequences) are not for files: footage posing as a recording would take in another case's.
"""

from __future__ import annotations

from typing import Any

import av

# Metadata that is no text must not keep footage from being opened: PyAV 19 replaces what it cannot decode by itself.
TEXT_OPTIONS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}

SCHEMES = {"rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "srt"}
IMAGES = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".heic", ".avif"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv"}
VIDEOS |= {".asf", ".flv", ".ogv", ".3gp", ".mxf", ".dav", ".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg"}
VIDEOS |= {".gif", ".y4m", ".nut", ".rm", ".f4v", ".dv", ".m2t", ".tp", ".ivf", ".3g2"}

_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
_CONTAINERS = ["matroska,webm", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "nut", "rm", "dhav", "dv", "ivf"]
_CONTAINERS += ["wtv", "gxf", "ty", "swf", "nsv", "amv", "lmlm4", "ivr", "smjpeg", "mpjpeg", "yuv4mpegpipe", "r3d"]
_CONTAINERS += ["kux", "pva", "nuv", "lxf", "dnxhd", "apv"]
_RAW = [
    "h264",
    "hevc",
    "vvc",
    "mjpeg",
    "mjpeg_2000",
    "mpegvideo",
    "m4v",
    "h263",
    "h261",
    "vc1",
    "vc1test",
    "obu",
    "av1",
]
_RAW += ["cavsvideo", "dirac", "avs2", "avs3", "evc", "lvf"]
_STILLS = ["image2", "gif", "apng", "webp", "webp_anim", "jpegxl_anim", "ico"]
_STILLS += [f"{kind}_pipe" for kind in ("bmp", "jpeg", "png", "tiff", "webp", "pam", "pbm", "pgm", "pgmyuv", "ppm")]
_STILLS += [f"{kind}_pipe" for kind in ("pfm", "phm", "gif", "j2k", "jpegls", "jpegxl", "qoi", "dpx", "exr", "hdr")]
_STILLS += [f"{kind}_pipe" for kind in ("sgi", "sunrast", "psd", "pcx")]
_LIVE = ["rtsp", "rtp", "sdp", "hls", "live_flv", "rtp_mpegts", "mpegtsraw", "v4l2", "video4linux2,v4l2", "dshow"]
_LIVE += ["avfoundation", "webvtt", "aac", "mp3"]  # the last three: other renditions of HLS

FILE_DEMUXERS = ",".join([_MOV, *_CONTAINERS, *_RAW, *_STILLS])
URL_DEMUXERS = ",".join([FILE_DEMUXERS, *_LIVE])
NO_PLAYLISTS = ",".join([FILE_DEMUXERS, *(name for name in _LIVE if name != "hls")])
NO_PRESENTATION_TIMES = {"avi"}
