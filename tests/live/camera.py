"""A camera for the tests: GStreamer's RTSP server, run by the system's Python (which has its bindings).

Plays raw I420 images in a loop, or a test pattern, encoded as H.264 or H.265.  The wall clock in milliseconds, modulo
2**24, is drawn into the top rows of each image as 24 blocks, so that a reader can tell how old an image is.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtspServer  # noqa: E402

BITS, BLOCK = 24, 16


class Images:
    """The images of one media, pushed by a timer."""

    def __init__(self, media: Any, arguments: argparse.Namespace) -> None:
        self.source = media.get_element().get_by_name("images")
        self.ended = False
        media.connect("unprepared", self.end)
        self.every = 1.0 / arguments.fps
        self.width, self.height = arguments.width, arguments.height
        self.size = self.width * self.height * 3 // 2
        self.count = 0
        if arguments.raw:
            data = Path(arguments.raw).read_bytes()
            self.frames = [data[i : i + self.size] for i in range(0, len(data) - self.size + 1, self.size)]
        else:
            row = bytes(16 + x * 200 // self.width for x in range(self.width))
            self.frames = [row * self.height + bytes([100 + i]) * (self.size // 3) for i in range(50)]
        self.due = time.monotonic()
        GLib.timeout_add(5, self.push)

    def end(self, _: object) -> None:
        self.ended = True

    def push(self) -> bool:
        frame = bytearray(self.frames[self.count % len(self.frames)])
        now = int(time.time() * 1000) % (1 << BITS)
        row = b"".join((b"\xeb" if now >> bit & 1 else b"\x10") * BLOCK for bit in range(BITS))
        for y in range(BLOCK):
            frame[y * self.width : y * self.width + len(row)] = row
        buffer = Gst.Buffer.new_wrapped(bytes(frame))
        buffer.duration = int(self.every * Gst.SECOND)
        if self.source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            return not self.count and not self.ended  # before the first, the pipeline may not be up yet
        self.count += 1
        self.due = max(self.due + self.every, time.monotonic() - 0.2)
        GLib.timeout_add(max(0, int((self.due - time.monotonic()) * 1000)), self.push)
        return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="8554")
    parser.add_argument("--raw")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--fps", type=float, default=25)
    parser.add_argument("--codec", choices=["h264", "h265"], default="h264")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--paths", default="cam")
    parser.add_argument("--tls", help="Speak rtsps with the certificate and key in this PEM file; wants a user, too.")
    parser.add_argument("--record", help="Take pushes of H.264 at /push, and write them to this MPEG-TS file.")
    arguments = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.props.address, server.props.service = "127.0.0.1", arguments.port
    encoder = f"x26{arguments.codec[-1]}enc tune=zerolatency speed-preset=ultrafast key-int-max=25 bitrate=1500"
    if arguments.codec == "h264":
        encoder += " threads=1"
    launch = (
        f"( appsrc name=images is-live=true do-timestamp=true format=time caps=video/x-raw,format=I420,"
        f"width={arguments.width},height={arguments.height},framerate={int(arguments.fps)}/1 "
        f"! {encoder} ! {arguments.codec}parse config-interval=-1 ! rtp{arguments.codec}pay name=pay0 pt=96 )"
    )
    for path in arguments.paths.split(","):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch)
        factory.set_shared(True)
        factory.connect(
            "media-configure",
            lambda _, media: Images(media, arguments),
        )
        if arguments.user:
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_permission_for_role("viewer", "media.factory.access", True)
            permissions.add_permission_for_role("viewer", "media.factory.construct", True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(f"/{path}", factory)
    if arguments.record:
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
        factory.set_launch(
            f"( rtph264depay name=depay0 ! h264parse ! mpegtsmux ! filesink location={arguments.record} )"
        )
        server.get_mount_points().add_factory("/push", factory)
    if arguments.user:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if arguments.tls:
            auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(arguments.tls))
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(arguments.user, arguments.password), token)
        server.set_auth(auth)
    if server.attach(None) == 0:
        sys.exit(f"port {arguments.port} is in use")
    print("listening", flush=True)
    GLib.MainLoop().run()


main()
