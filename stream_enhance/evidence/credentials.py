"""Content credentials (C2PA 2) in finished videos: what made them, from what, signed.

MP4 and MOV hold them; of other kinds of file they stand in a sidecar.  The words for what was done are IPTC's: frames
with faces by a learned network are a composite with trained algorithmic media, those by filters are algorithmically
enhanced.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import __version__
from ..errors import EvidenceError
from .keys import Identity
from .manifest import FileEntry

EMBEDDED = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime"}
_OTHERS = {".mkv": "video/x-matroska", ".ts": "video/mp2t", ".m2ts": "video/mp2t"}
_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ASSERTION = "org.stream-enhance.evidence"
_PARENT = "xmp:iid:original"


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of an output."""

    original: FileEntry | None  # None: a camera or a stream
    source: str  # its name
    learned: bool
    changed_by: str  # "": no face was changed
    models: tuple[tuple[str, str], ...]  # file and sha256
    manifest: str  # its name
    chain: str  # chain value of its last line so far
    steps: tuple[str, ...]  # each in a few words

    def as_json(self, title: str) -> str:
        """The manifest definition that c2pa takes."""
        kind = "compositeWithTrainedAlgorithmicMedia" if self.learned else "algorithmicallyEnhanced"
        agent = {"name": "stream-enhance", "version": __version__}
        actions: list[dict[str, Any]] = [{"action": "c2pa.opened", "parameters": {"ingredientIds": [_PARENT]}}]
        for step in self.steps:
            action = {"action": "c2pa.edited", "description": step, "softwareAgent": agent}
            actions.append(action | ({"digitalSourceType": _IPTC + kind} if self.changed_by else {}))
        parent = {"title": self.source, "relationship": "parentOf", "instance_id": _PARENT}
        found: dict[str, Any] = {"manifest": self.manifest, "chain": self.chain, "changed_by": self.changed_by}
        found["models"] = [{"file": file, "sha256": sha256} for file, sha256 in self.models]
        found["original"] = {"name": self.source} | (
            {"sha256": self.original.sha256, "bytes": self.original.bytes} if self.original else {}
        )
        return json.dumps(
            {
                "claim_generator_info": [agent],
                "title": title,
                "ingredients": [parent],
                "assertions": [
                    {"label": "c2pa.actions.v2", "data": {"actions": actions}},
                    {"label": ASSERTION, "data": found},
                ],
            }
        )


class _Discarded(io.RawIOBase):
    """Where c2pa writes a copy that nobody needs; it asks for its length."""

    def __init__(self) -> None:
        self._at = self._size = 0

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def readinto(self, buffer: Any) -> int:
        return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def sign(file: Path, signed: Any, title: str, claim: Claim, identity: Identity) -> bytes:
    """Write ``file`` with its credentials to ``signed``, or, with None, only return them for a sidecar.

    Args:
        file: a finished video.
        signed: an empty binary file, open for reading and writing.
        title: the name that the video will have.

    Returns:
        The credentials (JUMBF).

    Raises:
        EvidenceError: c2pa cannot sign it.
        OSError: it cannot be read or written.
    """
    import c2pa
    from cryptography.hazmat.primitives import serialization as s

    key = identity.key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    info = c2pa.C2paSignerInfo(identity.algorithm, identity.pem.encode(), key, None)
    try:
        with (
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(claim.as_json(title)) as builder,
            file.open("rb") as read,
        ):
            if signed is None:
                builder.set_no_embed()
            form = mime_type(Path(title))
            return bytes(builder.sign(signer, form, read, _Discarded() if signed is None else signed))
    except c2pa.C2paError as error:
        raise EvidenceError(f"{title}: cannot be signed ({str(error).splitlines()[0][:200]})") from None


def mime_type(path: Path) -> str:
    """As c2pa knows the kind of file."""
    suffix = path.suffix.lower()
    return EMBEDDED.get(suffix) or _OTHERS.get(suffix, "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was read from a file's content credentials."""

    state: Literal["valid", "trusted", "invalid"]
    problems: tuple[str, ...]  # codes and explanations of what does not hold
    title: str
    evidence: dict[str, Any]  # our own assertion; empty: not signed by this program
    source_type: str  # IPTC's word for what was done; ""
    issuer: str


def read_credentials(file: Path, sidecar: Path | None = None) -> Credentials | None:
    """The content credentials of ``file``, in it or in ``sidecar``, checked; None where there are none.

    Raises:
        EvidenceError: they are damaged beyond reading.
        OSError: a file cannot be read.
    """
    import c2pa

    data = sidecar.read_bytes() if sidecar else None
    try:
        with file.open("rb") as stream, c2pa.Reader(mime_type(file), stream, data) as reader:
            found = json.loads(reader.json())
            state = str(reader.get_validation_state())
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error) or isinstance(error, c2pa.C2paError.ManifestNotFound):
            return None
        raise EvidenceError(f"{file}: its content credentials cannot be read ({str(error)[:160]})") from None
    active = found.get("manifests", {}).get(found.get("active_manifest"))
    if active is None:
        raise EvidenceError(f"{file}: its content credentials are damaged: none of them is the active one")
    assertions = {each["label"]: each["data"] for each in active.get("assertions", ())}
    actions = assertions.get("c2pa.actions.v2", {}).get("actions", ())
    kinds = [action["digitalSourceType"].rpartition("/")[2] for action in actions if "digitalSourceType" in action]
    untrusted = "signingCredential.untrusted"  # no list of trusted authorities is installed: we compare certificates
    problems = [s for s in found.get("validation_status", ()) if s["code"] != untrusted]
    return Credentials(
        "invalid" if state == "Invalid" or problems else "trusted" if state == "Trusted" else "valid",
        tuple(f"{s['code']}: {s.get('explanation', '')}" for s in problems),
        str(active.get("title", "")),
        dict(assertions.get(ASSERTION, {})),
        kinds[0] if kinds else "",
        str(active.get("signature_info", {}).get("common_name", "")),
    )
