"""How options are declared: beside what they are for, each with its default, its bounds and a description.

``config.Config`` is made of these classes, and so are the reference page and the JSON schema: a default stands nowhere
else.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

EnhancerKind = Literal["unet", "classical", "none"]  # made in stages/networks.py
OverlayMode = Literal["inplace", "panel", "side_by_side"]  # drawn in stages/overlay.py


class Options(BaseModel):
    """Frozen, and strict about its names.  Raises ``pydantic.ValidationError`` for a value out of bounds."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")
