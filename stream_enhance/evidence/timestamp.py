"""RFC 3161 timestamps: an authority signs that data of a hash existed at a time.  Only the hash leaves the machine."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import EvidenceError, redact
from ..extras import install_hint

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_TIMEOUT = 15.0  # seconds
_LARGEST = 1 << 20  # bytes of an answer


def timestamp(data: bytes, url: str) -> bytes:
    """The answer of the timestamp authority at ``url`` for ``data``, DER; its imprint and nonce were compared.

    Raises:
        EvidenceError: it cannot be reached, refuses, or answers something else.
    """
    try:
        from rfc3161_client import TimestampRequestBuilder, decode_timestamp_response
    except ModuleNotFoundError as error:
        raise EvidenceError(f"timestamps need {error.name}; {install_hint('evidence')}") from None
    name = redact(url)
    if not url.lower().startswith(("http://", "https://")):
        raise EvidenceError(f"evidence.tsa={name}: is no http or https URL; name a timestamp authority's")
    asked = TimestampRequestBuilder().data(data).nonce(nonce=True).cert_request(cert_request=True).build()
    request = urllib.request.Request(url, asked.as_bytes(), {"Content-Type": "application/timestamp-query"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            given: bytes = answer.read(_LARGEST)
        response = decode_timestamp_response(given)
        granted = response.status in (0, 1)
        same = granted and response.tst_info.nonce == asked.nonce
        same = same and response.tst_info.message_imprint.message == asked.message_imprint.message
    except (OSError, http.client.HTTPException) as error:  # urllib's are OSErrors
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise EvidenceError(f"{name}: gives no timestamp ({why}); without one, leave evidence.tsa out") from None
    except ValueError:
        raise EvidenceError(f"{name}: answers with no timestamp (RFC 3161); is it the right URL?") from None
    if not granted:
        raise EvidenceError(f"{name}: refuses a timestamp (status {response.status}); ask its operator")
    if not same:
        raise EvidenceError(f"{name}: answers with a timestamp of something else; name another authority")
    return given


def timestamped_at(token: bytes, data: bytes, roots: Sequence[Certificate] = ()) -> datetime:
    """When an authority saw ``data``.

    Args:
        token: its answer, DER.
        roots: certificates of trusted authorities' roots; with none, the signature is checked against the certificate
            that the answer itself holds.

    Raises:
        EvidenceError: the answer is damaged, of other data, or not by one of ``roots``.
    """
    from cryptography.x509 import load_der_x509_certificate
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    try:
        response = decode_timestamp_response(token)
        builder = VerifierBuilder()
        for root in roots or map(load_der_x509_certificate, response.signed_data.certificates):
            builder = builder.add_root_certificate(root)
        builder.build().verify_message(response, data)
    except VerificationError as error:
        raise EvidenceError(f"the timestamp does not hold ({error})") from None
    except ValueError:
        raise EvidenceError("the timestamp is damaged or of an unknown form") from None
    return response.tst_info.gen_time
