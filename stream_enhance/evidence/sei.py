"""Whether a recording carries its camera's own signature: ONVIF Media Signing puts it into SEI messages.

User data unregistered (payload type 5, ITU-T H.264 and H.265, D.1) that begins with ONVIF's UUID.  What it says is not
checked here; ONVIF's signed media framework does that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import av

UUID = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
_PACKETS = 3000  # of the video looked at: cameras sign every few seconds


def camera_signature(path: Path) -> Literal["present", "absent", "not checked"]:
    """Whether the first ``_PACKETS`` packets of the video at ``path`` hold it; "not checked": not H.264 or H.265.

    No emulation prevention byte can lie within the UUID, so its bytes can be searched for as they are.
    """
    try:
        with av.open(f"file:{path}", "r", options={"protocol_whitelist": "file"}) as container:
            (video, *_) = container.streams.video or (None,)
            if video is None or video.codec_context.name not in ("h264", "hevc"):
                return "not checked"
            for count, packet in enumerate(container.demux(video)):
                if UUID in bytes(packet):
                    return "present"
                if count >= _PACKETS:
                    break
    except (av.FFmpegError, ValueError, OSError):
        return "not checked"
    return "absent"
