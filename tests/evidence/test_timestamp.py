"""Timestamps by an authority on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from stream_enhance.errors import EvidenceError
from stream_enhance.evidence.timestamp import timestamp, timestamped_at
from tests.conftest import Command
from tests.evidence.tsa import Authority, serving


def test_a_timestamp_holds_for_its_data_and_authority_only() -> None:
    authority = Authority.new()
    with serving(authority.answer) as url:
        token = timestamp(b"data", url)
    assert timestamped_at(token, b"data", [authority.root]).year >= 2026
    with pytest.raises(EvidenceError, match="does not hold"):
        timestamped_at(token, b"other", [authority.root])
    with pytest.raises(EvidenceError, match="does not hold"):
        timestamped_at(token, b"data", [Authority.new().root])
    with pytest.raises(EvidenceError, match="damaged"):
        timestamped_at(token[:-20], b"data", [authority.root])


def test_an_authority_that_gives_none_is_one_clear_line() -> None:
    authority = Authority.new()
    with serving(lambda query: None) as url, pytest.raises(EvidenceError, match="gives no timestamp") as caught:
        timestamp(b"data", url)
    assert "\n" not in str(caught.value)
    with serving(lambda query: b"<html>") as url, pytest.raises(EvidenceError, match="answers with no timestamp"):
        timestamp(b"data", url)
    with serving(authority.answer) as url:
        pass  # it is gone now
    with pytest.raises(EvidenceError, match=r"gives no timestamp .*refused"):
        timestamp(b"data", url)
    with pytest.raises(EvidenceError, match="no http or https URL"):
        timestamp(b"data", "ftp://127.0.0.1/")


def test_an_answer_for_something_else_is_refused() -> None:
    authority, kept = Authority.new(), list[bytes]()

    def same(query: bytes) -> bytes:
        kept.append(authority.answer(query))
        return kept[0]

    with serving(same) as url:
        timestamp(b"data", url)
        with pytest.raises(EvidenceError, match="something else"):
            timestamp(b"other", url)


def test_a_seal_is_timestamped_and_checked(
    command: Command, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    authority = Authority.new()
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root.public_bytes(Encoding.PEM))
    out = tmp_path / "out.mp4"
    with serving(authority.answer) as url:
        assert command("run", clip, "-o", out, "--report", tmp_path / "r.json", "--evidence", "--tsa", url).code == 0
    done = command("verify", out, "--tsa-certificate", root)
    assert done.code == 0
    assert "says an authority that was named" in done.out
    (tmp_path / "out.mp4.evidence" / "seal.json.tsr").write_bytes(b"x")
    done = command("verify", out)
    assert done.code == 1
    assert "DOES NOT HOLD timestamp" in done.out


def test_without_the_authority_the_seal_stands_and_the_run_says_so(
    command: Command, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    out = tmp_path / "out.mp4"
    done = command(
        "run", clip, "-o", out, "--report", tmp_path / "r.json", "--evidence", "--tsa", "http://127.0.0.1:9/"
    )
    assert done.code == 2
    assert "gives no timestamp" in done.error
    assert command("verify", out).code == 0
