"""Checks evidence: the seal's signature, every file's hash, the manifest's chain and completeness, content credentials.

Every check ends as a ``Check``: it holds, does not hold, or could not be made, with what was found in one line.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.card import file_sha256
from ..errors import EvidenceError
from .credentials import EMBEDDED, Credentials, read_credentials
from .keys import CERTIFICATE, data_folder, load_chain, require_extra
from .manifest import Event, FileEntry, Footer, FrameEntry, Header, read
from .seal import SEAL, SIGNATURE, TIMESTAMP, VERIFIED, Head, Seal, read_seal
from .sei import camera_signature
from .session import evidence_folder
from .timestamp import timestamped_at

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked."""

    name: str
    holds: bool | None  # None: could not be checked
    text: str


@dataclass(frozen=True, slots=True)
class Trusted:
    """Certificates that who checks knows to be the right ones."""

    signers: tuple[Certificate, ...] = ()  # one of these must have signed; none: this installation's own is known
    authorities: tuple[Certificate, ...] = ()  # roots of timestamp authorities


def verify(path: Path, trusted: Trusted = Trusted()) -> list[Check]:
    """Everything that can be checked of ``path``: a folder with a seal, or a video with its evidence or credentials.

    Raises:
        EvidenceError: there is no such file, nothing to check, what checks signatures is not installed, or a signer is
            named for a video without its evidence folder.
    """
    require_extra()
    if path.is_dir():
        folder = path if (path / SEAL).exists() or not evidence_folder(path).is_dir() else evidence_folder(path)
        return list(_folder(folder, trusted))
    if not path.exists():
        raise EvidenceError(f"{path}: no such file or folder")
    return list(_file(path, trusted))


def _file(path: Path, trusted: Trusted) -> Iterator[Check]:
    folder = evidence_folder(path)
    if (folder / SEAL).exists():
        yield from _folder(folder, trusted)
        seal, _ = _or_none(folder)
        if seal is not None and path.resolve() not in {(folder / e.path).resolve() for e in seal.files}:
            yield Check("files", False, f"{path.name}: is not named in {folder.name}/{SEAL}")
        return
    found = read_credentials(path)
    if folder.is_dir():  # its seal is missing: says so
        yield from _folder(folder, trusted)
        if found is not None:
            yield _credentials(path.name, found)
        return
    if found is None:
        raise EvidenceError(
            f"{path}: holds no content credentials, and {folder.name} is not beside it; nothing to check"
        )
    if trusted.signers:  # c2pa names who signed and gives no certificate to compare
        raise EvidenceError(
            f"{path}: who signed it can only be compared with its evidence; put {folder.name} beside it, or leave out"
            " --certificate"
        )
    yield _credentials(path.name, found)
    yield Check("manifest", None, f"{folder.name} is not beside it: frames and decisions are not checked")


def _or_none(folder: Path) -> tuple[Seal | None, bytes]:
    try:
        return read_seal(folder)
    except EvidenceError:
        return None, b""


def _folder(folder: Path, trusted: Trusted) -> Iterator[Check]:
    try:
        seal, data = read_seal(folder)
    except EvidenceError as error:
        yield Check("seal", False, str(error))
        return
    yield from _signature(folder, seal, data, trusted)
    yield from _timestamp(folder, data, trusted)
    yield from _files(folder, seal)
    for head in seal.manifests:
        yield from _manifest(folder, head)
    for entry in seal.files:
        yield from _output(folder, folder / entry.path, seal)


def _signature(folder: Path, seal: Seal, data: bytes, trusted: Trusted) -> Iterator[Check]:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        certificate = x509.load_pem_x509_certificates(seal.certificate.encode())[0]
        public = certificate.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        public.verify((folder / SIGNATURE).read_bytes(), data, ec.ECDSA(hashes.SHA256()))
    except OSError as error:
        yield Check("signature", False, f"{folder / SIGNATURE}: cannot be read ({error.strerror})")
        return
    except (InvalidSignature, ValueError):
        yield Check("signature", False, f"{SEAL} or {SIGNATURE} was changed: the signature does not hold")
        return
    yield Check("signature", True, f"{SEAL} is as it was signed on {seal.created}")
    yield _signer(certificate, seal, trusted)


def _signer(certificate: Certificate, seal: Seal, trusted: Trusted) -> Check:
    from cryptography.hazmat.primitives import hashes

    who = certificate.subject.rfc4514_string()
    mark = certificate.fingerprint(hashes.SHA256()).hex()
    created = datetime.fromisoformat(seal.created)
    if not certificate.not_valid_before_utc <= created <= certificate.not_valid_after_utc:
        return Check(
            "signer",
            False,
            f"{who}: its certificate was valid from {certificate.not_valid_before_utc:%Y-%m-%d} to"
            f" {certificate.not_valid_after_utc:%Y-%m-%d}, not when it signed ({seal.created})",
        )
    if trusted.signers:
        known = certificate in trusted.signers
        return Check(
            "signer", known, f"{who}: {'was' if known else 'was not'} named with --certificate (SHA-256 {mark})"
        )
    own = data_folder() / CERTIFICATE
    if own.is_file() and certificate == load_chain(own)[0]:
        return Check("signer", True, f"{who}: this installation (SHA-256 {mark})")
    expired = "" if datetime.now(UTC) <= certificate.not_valid_after_utc else ", expired by now,"
    return Check(
        "signer",
        None,
        f"{who}: a certificate{expired} unknown here; compare SHA-256 {mark} with what its owner says, or name"
        " the certificate with --certificate",
    )


def _timestamp(folder: Path, data: bytes, trusted: Trusted) -> Iterator[Check]:
    path = folder / TIMESTAMP
    if not path.exists():
        yield Check("timestamp", None, "none: the time of the seal is the clock's of the machine that made it")
        return
    try:
        when = timestamped_at(path.read_bytes(), data, trusted.authorities)
    except (EvidenceError, OSError) as error:
        yield Check("timestamp", False, f"{TIMESTAMP}: {getattr(error, 'strerror', None) or error}")
        return
    by = "an authority that was named" if trusted.authorities else "an authority that was not named (--tsa-certificate)"
    yield Check("timestamp", True, f"{SEAL} was there at {when:%Y-%m-%d %H:%M:%S} UTC, says {by}")


def _files(folder: Path, seal: Seal) -> Iterator[Check]:
    wrong = False
    for entry in seal.files:
        if text := _difference(folder / entry.path, entry):
            wrong = True
            yield Check("files", False, f"{entry.path}: {text}")
    named = {os.path.normpath(folder / entry.path) for entry in seal.files}
    named |= {os.path.normpath(folder / name) for name in (SEAL, SIGNATURE, TIMESTAMP, VERIFIED)}
    for path in sorted(p for p in folder.rglob("*") if not p.is_dir()):
        if os.path.normpath(path) not in named:
            wrong = True
            yield Check("files", False, f"{path.relative_to(folder)}: is not named in {SEAL}: it was added later")
    if not wrong:
        yield Check("files", True, f"all {len(seal.files)} files are as they were sealed")


def _difference(path: Path, entry: FileEntry) -> str:
    """How the file at ``path`` differs from ``entry``, "" if it does not."""
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"was changed: {size} bytes, {entry.bytes} when it was sealed"
        return "" if file_sha256(path) == entry.sha256 else "was changed: its SHA-256 is another"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _manifest(folder: Path, head: Head) -> Iterator[Check]:
    path = folder / head.path
    tally = _Tally()
    value = ""
    try:
        for line, chain in read(path):
            tally.add(line)
            value = chain
    except EvidenceError as error:
        yield Check("manifest", False, str(error))
        return
    if value != head.chain:
        yield Check("manifest", False, f"{head.path}: its chain does not end as {SEAL} says: it was written again")
        return
    yield Check("manifest", True, f"{head.path}: the chain over {tally.lines} lines holds")
    yield from tally.checks()
    assert tally.header is not None
    yield from _source(path.parent, tally.header)


class _Tally:
    """Counts what a manifest says, to compare it with its footer."""

    def __init__(self) -> None:
        self.lines = self.next = self.out = 0
        self.faces: Counter[str] = Counter()
        self.header: Header | None = None
        self.footer: Footer | None = None
        self.gap = ""

    def add(self, line: Header | FrameEntry | Event | Footer) -> None:
        self.lines += 1
        match line:
            case Header():
                self.header = line
            case FrameEntry(index=index):
                if index != self.next and not self.gap:
                    self.gap = f"after frame {self.next - 1} comes {index}"
                self.next = index + 1
                self.out += line.output is not None
                self.faces.update(face.decision for face in line.faces)
            case Footer():
                self.footer = line

    def checks(self) -> Iterator[Check]:
        footer = self.footer
        assert footer is not None
        if self.gap:
            yield Check("completeness", False, f"the manifest lacks frames: {self.gap}")
        elif (self.next, self.out) != (footer.frames_in, footer.frames_out):
            found = f"{self.next} frames in and {self.out} out"
            yield Check(
                "completeness", False, f"{found}, but the footer says {footer.frames_in} and {footer.frames_out}"
            )
        elif dict(self.faces) != {k: v for k, v in footer.faces.items() if v}:
            yield Check("completeness", False, "the faces of the frames are not those that the footer counts")
        elif not footer.complete:
            yield Check("completeness", False, f"the run was not complete: {footer.error or 'frames were lost'}")
        else:
            text = f"{footer.frames_in} frames in = {footer.frames_out} out + {footer.frames_dropped} dropped"
            yield Check("completeness", True, f"{text}; {footer.packets_damaged} damaged packets")


def _source(folder: Path, header: Header) -> Iterator[Check]:
    if not header.source.files:
        yield Check("original", None, f"{header.source.name}: was no file; what was kept of it is in the seal")
        return
    for entry in header.source.files:
        path = folder / entry.path
        if not path.exists():
            yield Check("original", None, f"{entry.path}: is not there; SHA-256 {entry.sha256} when it was read")
        elif text := _difference(path, entry):
            yield Check("original", False, f"{entry.path}: {text.replace('sealed', 'read')}")
        else:
            yield Check("original", True, f"{entry.path}: is as it was read")
            if header.source.kind == "file":
                yield _camera(path)


def _camera(path: Path) -> Check:
    match camera_signature(path):
        case "present":
            return Check(
                "camera signature", None, f"{path.name}: holds its camera's signature (ONVIF); not checked here"
            )
        case "absent":
            return Check("camera signature", None, f"{path.name}: holds no signature of its camera (ONVIF)")
    return Check("camera signature", None, f"{path.name}: neither H.264 nor H.265; not looked for")


def _output(folder: Path, path: Path, seal: Seal) -> Iterator[Check]:
    """The content credentials of a sealed video."""
    sidecar = folder / f"{path.name}.c2pa"
    made = evidence_folder(path).is_dir() or not path.resolve().is_relative_to(folder.resolve())  # else a copy within
    embedded = made and path.suffix.lower() in EMBEDDED
    if not path.exists() or not (embedded or sidecar.exists()):
        return
    try:
        found = read_credentials(path, None if embedded else sidecar)
    except (EvidenceError, OSError) as error:
        yield Check("credentials", False, str(error))
        return
    if found is None:
        yield Check("credentials", False, f"{path.name}: holds no content credentials; they were removed")
        return
    yield _credentials(path.name, found)


def _credentials(name: str, found: Credentials) -> Check:
    what = f"{found.source_type or 'no face changed'}, signed by {found.issuer}"
    if found.state == "invalid":
        return Check("credentials", False, f"{name}: content credentials do not hold: {'; '.join(found.problems)}")
    return Check("credentials", True, f"{name}: content credentials hold: {what}")


def in_words(checks: Iterable[Check]) -> str:
    """One line a check, and what follows from them."""
    checks = list(checks)
    words = {True: "holds", False: "DOES NOT HOLD", None: "not checked"}
    lines = [f"{words[check.holds]:14}{check.name}: {check.text}" for check in checks]
    failed = sum(check.holds is False for check in checks)
    last = f"{failed} of {len(checks)} checks do not hold" if failed else "nothing was changed, as far as was checked"
    return "\n".join([*lines, "", last])
