"""What every avatar can do, whatever method made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.templates.opening import TemplateReference
from shared.types import ProxyMesh, Rig


@runtime_checkable
class Avatar(Protocol):
    """A trained person. rest_pose [J, 3] rad is how it was captured.

    captured_irradiance [9, 3]: SH order 2 irradiance of the light of the capture, None where unknown.
    """

    method: str
    rest_pose: NDArray[np.float32]
    captured_irradiance: Tensor | None

    def rig(self) -> Rig:
        """The skeleton and expressions it is driven by."""

    def proxy(self) -> ProxyMesh:
        """A light skinned mesh standing for it in Blender."""

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E].

        Without `normals` they may be left out, which saves the time.
        """

    def template(self) -> TemplateReference:
        """Which template it hangs on, and whose shape of it."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that must be stored of it, by name."""

    def description(self) -> Mapping[str, Any]:
        """The rest of what must be stored, as JSON values; its method's loader reads both back."""
