"""What a web server answers for a URL, asked before FFmpeg is: live or recorded, and which hosts it leads to.

FFmpeg follows redirects and playlists to any host, so a camera could have this program fetch from hosts that only it
can reach.  Here they are followed first, and refused where they lead elsewhere.
"""

from __future__ import annotations

import base64
import http.client
import io
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from ..errors import SourceError
from .aes import decrypted
from .formats import NO_PLAYLISTS

_REDIRECTS = 8
_MOVED = (301, 302, 303, 307, 308)
_HEAD = 1 << 20  # bytes of a playlist that are read


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has at a URL."""

    url: str  # where the redirects ended, user name and password as before
    kind: Literal["live", "recorded", "unknown"]
    seekable: bool  # it gives parts of it
    playlist: bool = False  # HLS


def ask(url: str, name: str, timeout: float, other_hosts: bool) -> Answer:
    """What is at ``url``.

    Args:
        url: http or https, with user name and password where it has them.
        name: fit to be shown.
        timeout: seconds to wait for each answer.
        other_hosts: whether redirects and playlists may lead to other hosts.

    Raises:
        SourceError: it leads to another host, or in circles.
        OSError, http.client.HTTPException: there is no answer.
    """
    home, where = urlsplit(url).hostname, url
    for _ in range(_REDIRECTS):
        connection = _connect(where, timeout)
        try:
            response = _get(connection, where)
            if response.status in _MOVED and (target := response.getheader("Location")):
                where = _allowed(where, target, home, name, other_hosts)
                continue
            return _judged(where, home, name, response, timeout, other_hosts)
        finally:
            connection.close()
    raise SourceError(f"{name}: its server redirects more than {_REDIRECTS} times; check the URL")


def on_its_host(answer: Answer, name: str, timeout: float) -> tuple[dict[str, str], dict[str, Any]]:
    """Options for FFmpeg, and arguments for ``av.open``, that keep what it opens on the host of ``answer``."""
    if not answer.playlist:
        return {"max_redirects": "0", "format_whitelist": NO_PLAYLISTS}, {}
    # it keeps connections for the next segment only where they are its own
    given = {"max_redirects": "0", "http_persistent": "0", "http_multiple": "0"}
    return given, {"io_open": same_host(answer.url, name, timeout)}


def same_host(url: str, name: str, timeout: float) -> Callable[[str, int, dict[str, str]], io.BufferedIOBase]:
    """What FFmpeg's HLS demuxer opens, for ``av.open(io_open=...)``: nothing but what is on the host of ``url``.

    A playlist can change from one reading to the next and a segment can redirect, so each is checked as it is opened.
    What cannot be read is empty, which the demuxer passes over.
    """
    home = urlsplit(url).hostname
    refused = False  # PyAV raises the first error soon, and would print any before that

    def opened(target: str, flags: int, options: dict[str, str]) -> io.BufferedIOBase:
        nonlocal refused
        if refused:
            return io.BytesIO()
        try:
            return read(target, options)
        except SourceError:
            refused = True
            raise

    def read(target: str, options: dict[str, str]) -> io.BufferedIOBase:
        is_encrypted = target.startswith(("crypto+", "crypto:"))  # FFmpeg's protocol around another's URL
        target = target[len("crypto+") :] if is_encrypted else target
        where, first, end = url, options.get("offset", "0"), options.get("end_offset", "0")
        span = f"{first}-{int(end) - 1 if int(end) else ''}"
        for _ in range(_REDIRECTS):
            where = _allowed(where, target, home, name, other_hosts=False)
            try:
                response = _get(_connect(where, timeout), where, span)
            except (OSError, http.client.HTTPException):
                return io.BytesIO()
            if response.status in (200, 206):
                return decrypted(response, options["key"], options["iv"], name) if is_encrypted else response
            response.close()
            if response.status not in _MOVED or not (target := response.getheader("Location") or ""):
                return io.BytesIO()
        raise SourceError(f"{name}: its server redirects more than {_REDIRECTS} times; check the URL")

    return opened


def _connect(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme.lower() == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as FFmpeg: cameras sign their own
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def _get(connection: http.client.HTTPConnection, url: str, span: str = "0-") -> http.client.HTTPResponse:
    parts = urlsplit(url)
    headers = {"Range": f"bytes={span}", "User-Agent": "Lavf/stream-enhance", "Connection": "close", "Accept": "*/*"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")), headers=headers)
    return connection.getresponse()


def _allowed(where: str, target: str, home: str | None, name: str, other_hosts: bool) -> str:
    """``target``, relative to ``where``, in full; credentials stay on their own host."""
    full = urljoin(where, target)
    parts = urlsplit(full)
    if parts.scheme not in ("http", "https") or not (other_hosts or parts.hostname == home):
        raise SourceError(
            f"{name}: leads to another host, {parts.scheme}://{parts.hostname or ''}; "
            "allow it with source.other_hosts=true"
        )
    userinfo = urlsplit(where).netloc.rpartition("@")[0]
    if parts.hostname == home and userinfo and "@" not in parts.netloc:
        parts = parts._replace(netloc=f"{userinfo}@{parts.netloc}")
    return urlunsplit(parts)


def _judged(
    where: str,
    home: str | None,
    name: str,
    response: http.client.HTTPResponse,
    timeout: float,
    other_hosts: bool,
) -> Answer:
    kind = (response.getheader("Content-Type") or "").lower()
    if response.status not in (200, 206):
        return Answer(where, "unknown", False)
    if kind.startswith("multipart/"):
        return Answer(where, "live", False)
    if "mpegurl" in kind or urlsplit(where).path.lower().endswith((".m3u8", ".m3u")):
        return _judged_playlist(
            where, home, name, response.read(_HEAD).decode("utf-8", "replace"), timeout, other_hosts
        )
    ranges = response.status == 206 or (response.getheader("Accept-Ranges") or "none").lower() == "bytes"
    recorded = ranges or response.getheader("Content-Length") is not None
    return Answer(where, "recorded" if recorded else "live", ranges)


def _judged_playlist(
    where: str, home: str | None, name: str, text: str, timeout: float, other_hosts: bool, depth: int = 0
) -> Answer:
    """HLS (RFC 8216): it has an end where it says so; a master playlist is as its first variant is."""
    lines = [line.strip() for line in text.splitlines()]
    targets = [line for line in lines if line and not line.startswith("#")]
    quoted = [part.split('"')[0] for line in lines for part in line.split('URI="')[1:] if line.startswith("#")]
    for target in [*targets, *quoted]:
        _allowed(where, target, home, name, other_hosts)
    ended = any(line == "#EXT-X-ENDLIST" for line in lines)
    if any(line.startswith("#EXT-X-STREAM-INF") for line in lines) and targets and depth == 0:
        variant = _allowed(where, targets[0], home, name, other_hosts)
        connection = _connect(variant, timeout)
        try:
            response = _get(connection, variant)
            body = response.read(_HEAD).decode("utf-8", "replace")
        finally:
            connection.close()
        inner = _judged_playlist(variant, home, name, body, timeout, other_hosts, depth + 1)
        return Answer(where, inner.kind, True, playlist=True)
    return Answer(where, "recorded" if ended else "live", True, playlist=True)
