"""The certificate of a WHIP push."""

import ssl
import stat
from pathlib import Path

import pytest

from stream_enhance.sinks.dtls import dtls_options

x509 = pytest.importorskip("cryptography.x509")


def test_it_is_of_the_kind_that_every_end_takes_and_kept_from_others() -> None:
    options = dtls_options()
    certificate, key = Path(options["cert_file"]), Path(options["key_file"])
    made = x509.load_pem_x509_certificate(certificate.read_bytes())
    assert made.public_key().curve.name == "secp256r1"
    assert made.signature_hash_algorithm.name == "sha256"
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)  # they belong together
    assert dtls_options() == options, "one for each process"
