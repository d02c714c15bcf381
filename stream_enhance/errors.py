"""What can go wrong, as the user reads it: one line that names the thing and the cure.

``InputError`` and what derives from it is the user's to fix (exit code 2); any other ``StreamEnhanceError`` is a
failure of the run (exit code 1).  Messages never hold a URL's user name or password: see ``redact``.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

# Query keys that are no secrets: what is asked of a camera, and FFmpeg's own options.  Others may be: they are hidden.
_HARMLESS = {
    "action", "audio", "buffer_size", "camera", "camid", "cameraid", "channel", "channelid", "ch", "chn", "codec",
    "compression", "duration", "end", "encode", "fifo_size", "format", "fps", "framerate", "height", "img_size",
    "latency", "listen", "localport", "mode", "overrun_nonfatal", "page", "pkt_size", "profile", "profileid",
    "proto", "quality", "rate", "real", "real_stream", "resolution", "rotation", "size", "speed", "start",
    "starttime", "endtime", "stream", "streamtype", "subtype", "substream", "timeout", "transport",
    "transportmode", "trickmode", "ttl", "type", "unicast", "ver", "version", "video", "videocodec",
    "videocodectype", "width",
}  # fmt: skip
_NAMES = "(?:pass(?:word|wd|phrase)?|psw|pwd?|loginpas|token|key|secret|auth|sig(?:nature)?|user(?:name)?|usr|loginuse)"
_USERINFO = re.compile(r"(?<=://)\S*@")  # to the last @: a password may hold any of @ / ? :
_URL = re.compile(
    r"\b([a-z][a-z0-9+.-]*)://([^\s/?#\"'<>]*)([^\s?#\"'<>]*)(\?[^\s#\"'<>]*)?(#[^\s\"'<>]*)?", re.IGNORECASE
)
_KEY = re.compile(r"(?:^|(?<=[_,;&]))([A-Za-z0-9%.-]+)=")
_BARE_SECRET = re.compile(rf"(?i)([?&;]{_NAMES}=)[^&\s#;]*")  # where only a part of a URL is shown
_KEYS_IN_PATH = {"rtmp", "rtmps"}  # schemes whose last path part is the stream's key


class StreamEnhanceError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(StreamEnhanceError):
    """Something the user gave cannot be used; the message names it and the cure.  Exit code 2."""


class ConfigError(InputError):
    """A configuration key or value is wrong."""


class ModelError(InputError):
    """A model file is missing, damaged or of the wrong shape, or a named provider is not available."""


class SourceError(InputError):
    """A source cannot be opened or holds no video."""


class SinkError(InputError):
    """An output cannot be written."""


class EvidenceError(InputError):
    """Evidence cannot be read, written or signed, or a check cannot be made."""


class OutputError(StreamEnhanceError):
    """An output failed while the line ran, or is incomplete.  Exit code 1."""


class LineError(StreamEnhanceError):
    """A stage failed while the line ran.  Exit code 1."""


def redact(text: str) -> str:
    """``text`` with the user names, passwords, tokens and stream keys of every URL in it replaced by ``***``.

    Of a query only what is known to be harmless is shown, as no list of secrets' names is ever whole.
    """
    return _BARE_SECRET.sub(r"\1***", _URL.sub(_redacted, _USERINFO.sub("***@", text)))


def redact_output(spec: str) -> str:
    """An output's name as ``redact`` shows it; of WHIP, which is pushed by HTTP, without the last part of its path."""
    shown = redact(spec)
    if not shown.lower().startswith(("http://", "https://")):
        return shown
    address, _, _ = shown.partition("?")
    head, _, last = address.rstrip("/").rpartition("/")
    return shown if head.endswith("/") else f"{head}/***" if last else shown


def _redacted(url: re.Match[str]) -> str:
    scheme, host, path, query, fragment = (part or "" for part in url.groups())
    end = ""
    if not fragment:  # punctuation of the sentence around it
        whole = query or path
        stripped = whole.rstrip(".,:;)")
        end = whole[len(stripped) :]
        path, query = (path, stripped) if query else (stripped, query)
    path = "/".join(_harmless_part(part) for part in path.split("/"))
    if scheme.lower() in _KEYS_IN_PATH and path.strip("/"):
        path = f"{path.rstrip('/').rpartition('/')[0]}/***"
    elif "whip" in path.lower().split("/"):  # the key may stand before it or after
        path = "/***"
    query = re.sub(r"[^?&;]+", lambda part: _harmless_pair(part[0]), query)
    fragment = "#***" if "=" in fragment else fragment
    return f"{scheme}://{host}{path}{query}{fragment}{end}"


def _harmless_pair(pair: str) -> str:
    key, equals, _ = pair.partition("=")
    if unquote(key).lower() in _HARMLESS:
        return pair
    return f"{key}=***" if equals else "***"


def _harmless_part(part: str) -> str:
    """A part of a path, to the first key of a pair that may be secret: /user=admin_password=..._stream=0."""
    for key in _KEY.finditer(part):
        if unquote(key[1]).lower() not in _HARMLESS:
            return f"{part[: key.end()]}***"
    return part


def printable(text: str) -> str:
    """``text`` redacted, its control characters escaped: a file's name with a newline in it forges no log line."""
    return redact("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
