"""How options are declared: beside what they are for, each with its default, its bounds and a description.

``config.Config`` is made of these classes, and so are the reference page and the JSON schema: a default stands nowhere
else.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

EnhancerKind = Literal["unet", "classical", "fuse", "none"]  # made in stages/networks.py
OverlayMode = Literal["inplace", "panel", "side_by_side"]  # drawn in stages/overlay.py


class Options(BaseModel):
    """Frozen, and strict about its names.  Raises ``pydantic.ValidationError`` for a value out of bounds."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class EvidenceOptions(Options):
    """How a run with --evidence is signed, and what of the source it keeps."""

    keep_original: bool = Field(
        default=False,
        description="Copy the source, a file or folder, into the evidence folder, not only its hash.",
    )
    certificate: Path | None = Field(
        default=None,
        description="PEM file of the signer's certificate and those up to its root; null: this installation's own, made"
        " once.",
    )
    key: Path | None = Field(
        default=None, description="PEM file of the certificate's private key, on P-256, P-384 or P-521, not encrypted."
    )
    tsa: str | None = Field(
        default=None, description="URL of an RFC 3161 timestamp authority, which gets a hash; null: no timestamp."
    )
