"""Notices of new tracks reach a real web server and a real MQTT broker; where there is none, no camera waits."""

from __future__ import annotations

import http.server
import json
import queue
import shutil
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_enhance.errors import ConfigError
from stream_enhance.server.notices import Notices
from tests.live.cameras import free_port, wait_until

pytestmark = pytest.mark.timeout(300)

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin") or ""
SEEN: list[str] = []  # the Authorization headers that came
NOTICE = {"event": "track", "camera": "door", "track": 7}


@pytest.fixture
def hooked() -> Iterator[tuple[str, queue.Queue[Any], list[int]]]:
    """A web server's URL, what was posted to it, and the answers it has ready before 204."""
    got: queue.Queue[Any] = queue.Queue()
    answers: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = answers.pop(0) if answers else 204
            SEEN.append(self.headers.get("Authorization", ""))
            got.put((code, body))
            self.send_response(code)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Requests are not logged."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got, answers
    server.shutdown()
    server.server_close()


def test_a_webhook_is_posted_each_notice_and_asked_again_where_it_fails(
    hooked: tuple[str, queue.Queue[Any], list[int]],
) -> None:
    url, got, answers = hooked
    notices = Notices(webhook=url)
    notices.submit(NOTICE)
    assert got.get(timeout=60) == (204, NOTICE)
    answers += [500]
    notices.submit({**NOTICE, "track": 8})
    assert got.get(timeout=60)[0] == 500
    assert got.get(timeout=60) == (204, {**NOTICE, "track": 8})
    wait_until(lambda: notices.sent == 2)
    notices.close()
    assert notices.lost == 0


def test_a_webhook_with_a_password_is_sent_it_and_any_path_is_taken(
    hooked: tuple[str, queue.Queue[Any], list[int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, got, answers = hooked
    monkeypatch.setenv("HOOK", "p/w:ä")
    answers += [401]
    notices = Notices(webhook=url.replace("://", "://user:{HOOK}@") + "käse")
    notices.submit(NOTICE)
    assert got.get(timeout=60)[0] == 401
    assert got.get(timeout=60) == (204, NOTICE)
    notices.close()
    sent = b64decode(SEEN[-1].split()[1]).decode()
    assert (SEEN[-1].split()[0], sent) == ("Basic", "user:p/w:ä")
    assert "p/w" not in caplog.text


def test_a_webhook_is_not_followed_elsewhere(hooked: tuple[str, queue.Queue[Any], list[int]]) -> None:
    url, got, answers = hooked
    answers += [302, 302, 302]
    notices = Notices(webhook=url)
    notices.submit(NOTICE)
    wait_until(lambda: notices.failed == 1)
    notices.close()
    assert [got.get_nowait()[0] for _ in range(3)] == [302, 302, 302]
    assert got.empty()


def test_an_address_that_cannot_even_be_looked_up_ends_no_later_notice() -> None:
    notices = Notices(webhook=f"http://{'a' * 70}.example/")  # too long for DNS: UnicodeError, not OSError
    for track in (1, 2):
        notices.submit({**NOTICE, "track": track})
    wait_until(lambda: notices.failed == 2)
    notices.close()
    assert (notices.sent, notices.lost) == (0, 2)


def test_where_nobody_answers_the_oldest_are_lost_and_counted() -> None:
    notices = Notices(webhook=f"http://127.0.0.1:{free_port()}/")
    for track in range(300):
        notices.submit({**NOTICE, "track": track})
    assert notices.lost >= 99
    notices.close(0.1)


@pytest.mark.skipif(not MOSQUITTO, reason="needs Debian's mosquitto")
def test_mqtt_gets_notices_by_camera_also_after_the_broker_was_away(tmp_path: Path) -> None:
    paho = pytest.importorskip("paho.mqtt.client")
    from paho.mqtt.enums import CallbackAPIVersion

    port, passwords = free_port(), tmp_path / "passwords"
    tool = str(Path(MOSQUITTO).with_name("mosquitto_passwd"))
    tool = tool if Path(tool).exists() else "mosquitto_passwd"
    subprocess.run([tool, "-b", "-c", str(passwords), "wart", "Zauberwort7"], check=True)
    passwords.chmod(0o644)
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n")
    notices = Notices(mqtt=f"mqtt://wart:Zauberwort7@127.0.0.1:{port}/house/faces")  # it is not there yet
    broker = subprocess.Popen([MOSQUITTO, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        got: queue.Queue[Any] = queue.Queue()
        reader = paho.Client(CallbackAPIVersion.VERSION2)
        reader.username_pw_set("wart", "Zauberwort7")
        reader.on_connect = lambda client, *_: client.subscribe("house/faces/#", 1)
        subscribed = threading.Event()
        reader.on_subscribe = lambda *_: subscribed.set()
        reader.on_message = lambda _, __, message: got.put((message.topic, json.loads(message.payload)))
        reader.connect_async("127.0.0.1", port)
        reader.loop_start()
        assert subscribed.wait(60)
        end = time.monotonic() + 60
        while got.empty():  # the first ones may be given up before the broker is there
            assert time.monotonic() < end
            notices.submit(NOTICE)
            time.sleep(0.5)
        assert got.get() == ("house/faces/door", NOTICE)
        reader.loop_stop()
    finally:
        notices.close()
        broker.kill()
        broker.wait()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"webhook": "file:///etc/passwd"}, "http"),
        ({"mqtt": "mqtt://user:geheim@host"}, "topic"),
        ({"mqtt": "http://host/topic"}, "mqtt://"),
        ({"mqtt": "mqtt://host/a/#"}, "topic"),
        ({"mqtt": "mqtt://user:geheim@host:99999/a"}, "port"),
        ({"webhook": "http://user:ge[heim@host/"}, "is not a URL"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(arguments: dict[str, str], word: str) -> None:
    if "mqtt" in arguments:
        pytest.importorskip("paho.mqtt.client")
    with pytest.raises(ConfigError) as raised:
        Notices(**arguments)
    assert word in str(raised.value)
    assert "geheim" not in str(raised.value)
