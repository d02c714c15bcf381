"""The certificate with which a WHIP push shows who it is (DTLS, RFC 8827): a new one for each process.

FFmpeg would make one itself, but with GnuTLS, which PyAV's wheels have, of a kind that other ends refuse; RFC 8827 has
every end take ECDSA on P-256.  Nobody needs to trust it: its digest goes to the server with the offer.
"""

from __future__ import annotations

import datetime
import tempfile
from functools import cache
from pathlib import Path

from ..errors import SinkError
from ..extras import install_hint


def dtls_options() -> dict[str, str]:
    """FFmpeg's options for its WHIP muxer that name the certificate's files.

    Raises:
        SinkError: the package that makes certificates is not installed.
    """
    folder = Path(_made().name)
    return {"cert_file": str(folder / "cert.pem"), "key_file": str(folder / "key.pem")}


@cache
def _made() -> tempfile.TemporaryDirectory[str]:
    """A folder that only this user can read, deleted at the process's end, with ``cert.pem`` and ``key.pem``."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError:
        raise SinkError(f"WHIP needs the cryptography package; run {install_hint('whip')}") from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stream-enhance")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    folder = tempfile.TemporaryDirectory(prefix="stream-enhance-")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (Path(folder.name) / "key.pem").write_bytes(private)
    (Path(folder.name) / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder
