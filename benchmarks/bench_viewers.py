"""What fifty browsers and a fuzzer of the API do to a camera's frames.

    python -m benchmarks.bench_viewers CLIP [--viewers 50] [--seconds 20] [--rounds 6] [--fuzz]

One camera of 640x360 at 25 frames a second under ``serve``.  The mean age of its frames is taken from /metrics in
turns, while nobody watches and while all do, so many seconds each and so many times over, since what else the machine
does changes from minute to minute.  Let the seconds be whole rounds of CLIP, whose frames do not all cost the same.
Viewers are WebSockets that count what comes, in a process of their own on the same cores.  With ``--fuzz``
schemathesis asks beside them what the OpenAPI document allows, and what it does not (GET only: it finds and deletes the
camera else).  Needs what tests/live needs; for ``--fuzz`` schemathesis beside this Python.
"""

from __future__ import annotations

import argparse
import json
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.bench_live import decoded
from benchmarks.conditions import conditions, save

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "live"))
from cameras import Camera, free_port, missing, wait_until


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--fuzz", action="store_true")
    parser.add_argument("--watch", help=argparse.SUPPRESS)  # this process is the viewers, of that address
    given = parser.parse_args()
    if given.watch:
        print(json.dumps(_viewers(given.watch, given.viewers, given.seconds)))
        return
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(conditions()))
    with tempfile.TemporaryDirectory() as folder:
        raw, file, port = Path(folder) / "clip.i420", Path(folder) / "cameras.yaml", free_port()
        decoded(given.clip, 640, 360, raw)
        with Camera(raw=raw) as camera:
            config = {"listen": f"127.0.0.1:{port}", "gallery": folder, "cameras": {"one": {"url": camera.url}}}
            file.write_text(yaml.safe_dump(config))
            server = subprocess.Popen([sys.executable, "-m", "stream_enhance", "serve", str(file)])
            try:
                result = watched(given, f"127.0.0.1:{port}")
            finally:
                server.terminate()
                server.wait()
    print(json.dumps(result))
    save("viewers", result)


def watched(given: Any, address: str) -> dict[str, Any]:
    """Ages in milliseconds without viewers and with them, and what the viewers and the fuzzer say."""
    wait_until(lambda: _figures(address)[1] > 750, 120)  # half a minute: the first frames are older
    asked: list[str] = []  # what the fuzzer said, round by round
    ages: dict[int, list[float]] = {0: [], given.viewers: []}
    told: dict[str, Any] = {}
    for _ in range(given.rounds):
        for viewers in ages:
            process = _watching(given, address, viewers) if viewers else None
            fuzzer = _fuzzer(address) if viewers and given.fuzz else None
            time.sleep(4)
            ages[viewers].append(_age(address, given.seconds))
            if fuzzer:
                fuzzer.send_signal(signal.SIGINT)  # it has more to ask than there is time; it sums up and ends
                asked.append(fuzzer.communicate(timeout=60)[0])
            if process:
                told = json.loads(process.communicate(timeout=120)[0].splitlines()[-1])
    result: dict[str, Any] = {"age_ms": {str(viewers): one for viewers, one in ages.items()}}
    result["over_none"] = _ratio(ages[given.viewers], ages[0])
    if asked:
        tail = [line.strip() for line in asked[-1].splitlines() if line.strip()][-12:]
        result["fuzzer"] = {"server_errors": sum("Server error" in one for one in asked), "last_told": tail}
    return {**result, **told}


def _ratio(ages: list[float], without: list[float]) -> dict[str, float]:
    """Median over the rounds of the ages' ratio, and its bootstrap 95 % interval."""
    ratios = np.array(ages) / np.array(without)
    drawn = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return {"median": round(float(np.median(ratios)), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def _watching(given: Any, address: str, viewers: int) -> subprocess.Popen[str]:
    words = [given.clip, "--viewers", str(viewers), "--seconds", str(given.seconds + 6), "--watch", address]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bench_viewers", *words], stdout=subprocess.PIPE, text=True
    )


def _fuzzer(address: str) -> subprocess.Popen[str]:
    # at the lowest priority: elsewhere it would have cores of its own
    tool = ["nice", "-n", "19", str(Path(sys.executable).with_name("schemathesis"))]
    tool += ["run", f"http://{address}/openapi.json"]
    tool += ["--include-method", "GET", "--exclude-path-regex", "events|mjpeg", "--checks", "not_a_server_error"]
    tool += ["--phases", "coverage,fuzzing", "--max-examples", "2000", "--request-timeout", "20"]
    folder = tempfile.gettempdir()  # it keeps notes of its own where it stands
    return subprocess.Popen(tool, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _age(address: str, seconds: float) -> float:
    """Mean age of the frames of so many seconds."""
    total, count = _figures(address)
    time.sleep(seconds)
    later, more = _figures(address)
    return round((later - total) / max(1, more - count) * 1000, 1)


def _figures(address: str) -> tuple[float, float]:
    """Sum of ages in seconds, and how many frames they are of."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    except urllib.error.HTTPError as error:
        if error.code != 429:
            raise
        time.sleep(0.2)  # the fuzzer has just asked for the same more often than anyone may
        return _figures(address)
    except OSError:
        return 0.0, 0.0
    values = {
        line.split("{")[0]: float(line.split()[-1]) for line in lines if "age_seconds" in line and '"one"' in line
    }
    return values["stream_enhance_age_seconds_sum"], values["stream_enhance_age_seconds_count"]


def _viewers(address: str, count: int, seconds: float) -> dict[str, Any]:
    """What so many viewers got: messages each, and the CPU time that this process took for it.

    Bare sockets: a WebSocket library in Python would cost more than what it watches, on the same two cores.
    """
    viewers = {}
    with selectors.DefaultSelector() as waiting:
        for _ in range(count):
            viewers[connection := _joined(address)] = Counted()
            waiting.register(connection, selectors.EVENT_READ)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                viewers[key.fileobj].feed(key.fileobj)  # type: ignore[index,arg-type]
            time.sleep(0.005)  # several viewers a turn
    for connection in viewers:
        connection.close()
    counts = [viewer.messages for viewer in viewers.values()]
    told = {"least": min(counts), "median": int(np.median(counts))}
    return {"viewers": count, "messages_each": told, "viewers_cpu": round(time.process_time() / seconds, 3)}


def _joined(address: str) -> socket.socket:
    """A viewer of the camera's video, after the opening handshake (RFC 6455, section 4)."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), 60)
    lines = ["GET /api/cameras/one/video HTTP/1.1", f"Host: {address}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert b" 101 " in answer.splitlines()[0], answer
    return connection


class Counted:
    """Counts the messages in a server's stream of WebSocket frames (section 5.2), and answers its pings."""

    def __init__(self) -> None:
        self.messages, self._rest = 0, bytearray()

    def feed(self, connection: socket.socket) -> None:
        data = connection.recv(1 << 20)
        assert data, "the server hung up"
        self._rest += data
        while len(self._rest) >= 2:
            length, head = self._rest[1] & 0x7F, 2
            if length > 125:
                head = 4 if length == 126 else 10
                length = int.from_bytes(self._rest[2:head], "big")
            if len(self._rest) < head + length:
                return
            if self._rest[0] & 0x0F == 9:  # a ping; a pong under the mask 0
                connection.sendall(bytes([0x8A, 0x80 | length, 0, 0, 0, 0]) + self._rest[head : head + length])
            else:
                self.messages += 1
            del self._rest[: head + length]


if __name__ == "__main__":
    main()
