"""Hosts that only this machine can reach.  Secrets from the environment are tested with the sources that take them."""

from __future__ import annotations

import pytest

from stream_enhance.urls import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.2", "localhost.example", "127.0.0.1.example"])
def test_others_can_reach_it(host: str) -> None:
    assert not is_loopback(host)
