"""What fifty browsers and a fuzzer of the API do to a camera's frames.

    python -m benchmarks.bench_viewers CLIP [--viewers 50] [--seconds 20] [--rounds 6] [--fuzz]

One camera of 640x360 at 25 frames a second under ``serve``.  The mean age of its frames is taken from /metrics in
turns, while nobody watches and while all do, so many seconds each and so many times over, since what else the machine
does changes from minute to minute.  Let the seconds be whole rounds of CLIP, whose frames do not all cost the same.
A viewer is a WebSocket that counts what comes, and a stream of events, as of a page; all are in a process of their own
on the same cores.

With ``--fuzz`` schemathesis asks in those turns what the OpenAPI document allows, and what it does not (GET only: else
it finds and deletes the camera).  In the other turns it asks a second server, which has no camera, the same: its own
work is on these cores, too.  Needs what tests/live needs; for ``--fuzz`` schemathesis beside this Python.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.bench_live import decoded
from benchmarks.conditions import conditions, save
from tests.live.cameras import Camera, free_port, missing, wait_until

IDLE = ("chrt", "--idle", "0")  # gets only what others leave of the cores: elsewhere it would have its own


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
            other, elsewhere = Path(folder) / "none.yaml", free_port()
            other.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{elsewhere}"}))
            with serving(file), serving(other, IDLE) if given.fuzz else nullcontext():
                result = watched(given, f"127.0.0.1:{port}", f"127.0.0.1:{elsewhere}")
    print(json.dumps(result))
    save("viewers", result)


@contextmanager
def serving(file: Path, before: Sequence[str] = ()) -> Iterator[None]:
    """``serve`` of that file; ``before`` goes before its command."""
    server = subprocess.Popen([*before, sys.executable, "-m", "stream_enhance", "serve", str(file)])
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def watched(given: Any, address: str, elsewhere: str) -> dict[str, Any]:
    """Ages in milliseconds without viewers and with them, and what the viewers and the fuzzers say."""
    wait_until(lambda: _figures(address)[1] > 750, 120)  # half a minute: the first frames are older
    fuzzers = {0: Fuzzer(elsewhere), given.viewers: Fuzzer(address)} if given.fuzz else {}
    ages: dict[int, list[float]] = {0: [], given.viewers: []}
    watched: dict[str, Any] = {}
    for _ in range(given.rounds):
        for viewers, found in ages.items():
            process = _watching(given, address, viewers) if viewers else None
            if fuzzers:
                fuzzers[viewers].go_on()
            time.sleep(4)
            found.append(_age(address, given.seconds))
            if fuzzers:
                fuzzers[viewers].pause()
            if process:
                watched = json.loads(process.communicate(timeout=120)[0].splitlines()[-1])
    result: dict[str, Any] = {"age_ms": {str(viewers): one for viewers, one in ages.items()}}
    result["over_none"] = _ratio(ages[given.viewers], ages[0])
    if fuzzers:
        result["fuzzer"] = fuzzers[given.viewers].end()
        result["fuzzer_elsewhere"] = fuzzers[0].end()
    return {**result, **watched}


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


class Fuzzer:
    """schemathesis, again and again; between ``pause`` and ``go_on`` it is stopped."""

    def __init__(self, address: str) -> None:
        tool = [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://{address}/openapi.json"]
        tool += ["--include-method", "GET", "--exclude-path-regex", "events|mjpeg", "--checks", "not_a_server_error"]
        tool += ["--phases", "coverage,fuzzing", "--max-examples", "150", "--request-timeout", "20"]
        again = [*IDLE, "sh", "-c", 'while "$@"; do :; done', "sh", *tool]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        folder = tempfile.gettempdir()  # it keeps notes of its own where it stands
        self._process = subprocess.Popen(
            again, cwd=folder, stdout=self._said, stderr=subprocess.STDOUT, start_new_session=True
        )
        atexit.register(self._kill)
        time.sleep(15)  # until it asks
        self.pause()

    def pause(self) -> None:
        """Suspend it and its children."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume it."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def end(self) -> dict[str, int]:
        """How many requests its whole rounds were of, and how many of them were answered as they may be."""
        ended = self._process.poll() is not None  # it does where an answer is an error of the server
        self._kill()
        self._said.seek(0)
        said = self._said.read()
        assert not ended, said[-3000:]
        rounds = re.findall(r"(\d+) generated, (\d+) passed", said)
        return {
            "rounds": len(rounds),
            "asked": sum(int(a) for a, _ in rounds),
            "passed": sum(int(p) for _, p in rounds),
        }


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
    viewers: dict[socket.socket, Counted] = {}
    listeners: list[socket.socket] = []
    with selectors.DefaultSelector() as waiting:
        for _ in range(count):
            viewers[connection := _joined(address)] = Counted()
            waiting.register(connection, selectors.EVENT_READ, viewers[connection].feed)
            waiting.register(events := _listening(address), selectors.EVENT_READ, _drained)
            listeners.append(events)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                key.data(key.fileobj)
            time.sleep(0.005)  # several viewers a turn
    for connection in [*viewers, *listeners]:
        connection.close()
    counts = [viewer.messages for viewer in viewers.values()]
    each = {"least": min(counts), "median": int(np.median(counts))}
    return {"viewers": count, "messages_each": each, "viewers_cpu": round(time.process_time() / seconds, 3)}


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


def _listening(address: str) -> socket.socket:
    """A page's server-sent events."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), 60)
    connection.sendall(f"GET /api/events HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    assert b" 200 " in connection.recv(20)
    return connection


def _drained(connection: socket.socket) -> None:
    assert connection.recv(1 << 20), "the server hung up"


class Counted:
    """Counts the messages in a server's stream of WebSocket frames (section 5.2), and answers its pings."""

    def __init__(self) -> None:
        self.messages, self._rest = 0, bytearray()

    def feed(self, connection: socket.socket) -> None:
        """Read what has arrived, count its messages, answer pings."""
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
