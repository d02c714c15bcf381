"""Encrypted segments of HLS, decrypted while they are read."""

from __future__ import annotations

import io

from ..errors import SourceError
from ..extras import install_hint

_PIECE = 64 * 1024  # bytes


def decrypted(encrypted: io.BufferedIOBase, key: str, iv: str, name: str) -> io.BufferedIOBase:
    """What AES-128 in CBC mode with PKCS #7 padding hides (RFC 8216, 4.3.2.4).

    Args:
        encrypted: a segment; closed with what is returned.
        key: 16 bytes in hex.
        iv: initialisation vector, the same.
        name: of the source, fit to be shown.

    Raises:
        SourceError: the package that decrypts is not installed.
    """
    try:
        return _Decrypted(encrypted, bytes.fromhex(key), bytes.fromhex(iv))
    except ModuleNotFoundError:
        encrypted.close()
        raise SourceError(
            f"{name}: its segments are encrypted, which needs the cryptography package; run {install_hint('hls')}"
        ) from None


class _Decrypted(io.BufferedIOBase):
    def __init__(self, encrypted: io.BufferedIOBase, key: bytes, iv: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.padding import PKCS7

        self._encrypted, self._ready, self._ended = encrypted, b"", False
        self._decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        self._unpadder = PKCS7(128).unpadder()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = float("inf") if size is None or size < 0 else size
        while not self._ended and len(self._ready) < wanted:
            if data := self._encrypted.read(_PIECE):
                self._ready += self._unpadder.update(self._decryptor.update(data))
                continue
            self._ended = True
            try:
                self._ready += self._unpadder.update(self._decryptor.finalize()) + self._unpadder.finalize()
            except ValueError:  # cut off, or of another key: what came before is as it is
                break
        at = int(min(wanted, len(self._ready)))
        data, self._ready = self._ready[:at], self._ready[at:]
        return data

    def close(self) -> None:
        self._encrypted.close()
        super().close()
