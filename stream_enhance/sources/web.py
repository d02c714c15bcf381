"""What a web server answers for a URL, asked before FFmpeg is: live or recorded, and which hosts it leads to.

FFmpeg follows redirects and playlists to any host, so a camera could have this program fetch from hosts that only it
can reach.  Here they are followed first, and refused where they lead elsewhere.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from ..errors import SourceError

_REDIRECTS = 8
_HEAD = 1 << 20  # bytes of a playlist that are read


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has at a URL."""

    url: str  # where the redirects ended, user name and password as before
    kind: Literal["live", "recorded", "unknown"]
    seekable: bool  # it gives parts of it


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
            if response.status in (301, 302, 303, 307, 308) and (target := response.getheader("Location")):
                where = _allowed(where, target, home, name, other_hosts)
                continue
            return _judged(where, home, name, response, timeout, other_hosts)
        finally:
            connection.close()
    raise SourceError(f"{name}: its server redirects more than {_REDIRECTS} times; check the URL")


def _connect(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme.lower() == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as FFmpeg: cameras sign their own
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def _get(connection: http.client.HTTPConnection, url: str) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    headers = {"Range": "bytes=0-", "User-Agent": "Lavf/stream-enhance", "Connection": "close", "Accept": "*/*"}
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
        return Answer(where, inner.kind, True)
    return Answer(where, "recorded" if ended else "live", True)
