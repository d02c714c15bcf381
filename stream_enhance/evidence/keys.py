"""Who signs: a key and certificate of this installation, made once, or the user's own.

The installation's certificate is issued by an authority made for it alone, whose key is thrown away: content
credentials must not be signed with a self-signed certificate.  It says which installation signed, not who runs it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EvidenceError
from ..extras import install_hint
from ..safe_files import Originals, publish

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

KEY, CERTIFICATE = "evidence-key.pem", "evidence-certificate.pem"
_YEARS = 10


@dataclass(frozen=True, slots=True)
class Identity:
    """A key and the certificates that go with it."""

    key: EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]  # the signer's own first

    @property
    def pem(self) -> str:
        """The chain as PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in self.chain)

    @property
    def algorithm(self) -> str:
        """Name of the signature algorithm in content credentials."""
        return {256: "es256", 384: "es384", 521: "es512"}[self.key.curve.key_size]


def data_folder() -> Path:
    """Where this installation's key is: ``stream-enhance`` in the user's data folder."""
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "stream-enhance"


def identity(certificate: Path | None = None, key: Path | None = None) -> Identity:
    """The user's own where both files are given, else this installation's, made at the first call.

    Args:
        certificate: PEM, the signer's certificate first, then those up to its root.
        key: PEM, on an elliptic curve (P-256, P-384 or P-521), not encrypted.

    Raises:
        EvidenceError: a file cannot be read or used, or they do not belong together or are not valid now.
    """
    require_extra()
    if (certificate is None) != (key is None):
        raise EvidenceError("evidence.certificate and evidence.key: set both, or neither for this installation's own")
    if certificate is None or key is None:
        certificate, key = _own()
    found = Identity(_key(key), load_chain(certificate))
    about = found.chain[0]
    if about.public_key() != found.key.public_key():
        raise EvidenceError(
            f"{certificate}: is not the certificate of the key {key}; name the two that belong together"
        )
    now = datetime.now(UTC)
    if not about.not_valid_before_utc <= now <= about.not_valid_after_utc:
        raise EvidenceError(
            f"{certificate}: is valid from {about.not_valid_before_utc:%Y-%m-%d} to"
            f" {about.not_valid_after_utc:%Y-%m-%d}, not now; name a certificate that is valid"
        )
    return found


def require_extra() -> None:
    """Check that what signs and reads signatures is installed.

    Raises:
        EvidenceError: it is not.
    """
    try:
        import c2pa  # noqa: F401
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise EvidenceError(f"signatures need {error.name}; {install_hint('evidence')}") from None


def load_chain(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM file.

    Raises:
        EvidenceError: it cannot be read or holds none.
    """
    from cryptography import x509

    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise EvidenceError(f"{path}: the certificate cannot be read ({error.strerror})") from None
    except ValueError:
        raise EvidenceError(f"{path}: holds no certificate in PEM form; name the signer's .pem file") from None


def _key(path: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise EvidenceError(f"{path}: the key cannot be read ({error.strerror})") from None
    except (ValueError, TypeError):
        raise EvidenceError(f"{path}: is no private key in PEM form, or is encrypted; decrypt it first") from None
    if not isinstance(found, EllipticCurvePrivateKey) or found.curve.key_size not in (256, 384, 521):
        raise EvidenceError(f"{path}: is not a key on the curve P-256, P-384 or P-521; name one that is")
    return found


def _own() -> tuple[Path, Path]:
    """This installation's certificate and key; made where there are none."""
    folder = data_folder()
    certificate, key = folder / CERTIFICATE, folder / KEY
    if certificate.is_file() and key.is_file():
        return certificate, key
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, data in zip((key, certificate), _made(), strict=True):  # the certificate last: it says both are there
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(data)
            publish(part, path, Originals(), replace=True)
    except OSError as error:
        raise EvidenceError(
            f"{folder}: this installation's key cannot be kept there ({error.strerror}); name your own with"
            " evidence.certificate and evidence.key"
        ) from None
    return certificate, key


def _made() -> tuple[bytes, bytes]:
    """A new key and its certificate with that of its authority, both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(common: str) -> x509.Name:
        organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "stream-enhance")
        return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common)])

    number = os.urandom(4).hex()
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root, own = name(f"authority of installation {number}"), name(f"installation {number}")
    begin = datetime.now(UTC) - timedelta(minutes=5)  # clocks differ
    chain = []
    for subject, public, is_root in ((own, key.public_key(), False), (root, root_key.public_key(), True)):
        usage = x509.KeyUsage(not is_root, False, False, False, False, is_root, is_root, False, False)
        builder = (
            x509.CertificateBuilder(root, subject, public, x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=365 * _YEARS))
            .add_extension(x509.BasicConstraints(is_root, 0 if is_root else None), True)
            .add_extension(usage, True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False)
        )
        if not is_root:  # one of the purposes that C2PA knows
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        chain.append(builder.sign(root_key, hashes.SHA256()).public_bytes(s.Encoding.PEM))
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()), b"".join(chain)
