"""HLS whose segments are encrypted (RFC 8216, 4.3.2.4), kept on its host as any other."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from stream_enhance.errors import SourceError
from stream_enhance.sources.open import open_source
from tests.live.web_server import Answer, web_server, whole
from tests.media import make_video

KEY, IV = bytes(range(16)), bytes(range(100, 116))
pytestmark = pytest.mark.timeout(60)


def encrypted(data: bytes) -> bytes:
    padder, encryptor = PKCS7(128).padder(), Cipher(algorithms.AES(KEY), modes.CBC(IV)).encryptor()
    return encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()


def playlist(key: str, ended: bool = True) -> Answer:
    text = f'#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI="{key}",IV=0x{IV.hex()}\n'
    text += "#EXTINF:2,\na.ts\n" + ("#EXT-X-ENDLIST\n" if ended else "")
    return whole(text.encode(), "application/vnd.apple.mpegurl")


def test_encrypted_segments_are_read_on_their_own_host(tmp_path: Path) -> None:
    data = encrypted(make_video(tmp_path / "in.ts", 50, (320, 240)).read_bytes())
    with web_server({"/a.m3u8": playlist("/key"), "/key": whole(KEY), "/a.ts": whole(data)}) as port:
        source = open_source(f"http://127.0.0.1:{port}/a.m3u8")
        assert len(list(source.frames())) == 50
        source.close()


@pytest.mark.parametrize("wrong", ["another key", "cut off"])
def test_segments_that_cannot_be_decrypted_are_one_line(tmp_path: Path, wrong: str) -> None:
    data = encrypted(make_video(tmp_path / "in.ts", 10).read_bytes())
    key, data = (KEY[::-1], data) if wrong == "another key" else (KEY, data[:100])
    with (
        web_server({"/a.m3u8": playlist("/key"), "/key": whole(key), "/a.ts": whole(data)}) as port,
        pytest.raises(SourceError, match=r"cannot be opened|not one frame|no video"),
    ):
        list(open_source(f"http://127.0.0.1:{port}/a.m3u8").frames())


def test_a_key_on_another_host_is_refused() -> None:
    with (
        web_server({"/a.m3u8": playlist("http://localhost:1/key")}) as port,
        pytest.raises(SourceError, match="leads to another host, http://localhost"),
    ):
        open_source(f"http://127.0.0.1:{port}/a.m3u8")
