"""URLs as users write them: hosts that only this machine can reach, and secrets taken from the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import quote

from .errors import SourceError, redact


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``: a name, or an IP address, IPv6 with or without its brackets."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def with_environment(url: str) -> str:
    """``url`` with every ``{NAME}`` replaced by that environment variable.

    A user name or password is given as it is, not percent-encoded: what a URL cannot hold is encoded here.

    Raises:
        SourceError: a variable is not set, or there is a space in the URL.
    """
    if re.search(r"\s", url):  # not shown: it may be in a password
        raise SourceError(f"{url.split('://', maxsplit=1)[0]}://***: has a space in it; write %20")
    begin = url.find("://") + 3
    end = begin + url[begin:].partition("/")[0].rfind("@")

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SourceError(f"{redact(url)}: the environment variable {match[1]} is not set")
        given = os.environ[match[1]]
        return quote(given, safe="@:!$&'()*+,;=") if begin <= match.start() < end else given

    return re.sub(r"\{(\w+)\}", value, url)
