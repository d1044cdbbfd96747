"""Where a detector's landmarks lie on the open template, and what the detector makes of the template's movements.

Both are measured on our own renders of other people than those a track is judged by (`calibrate.py`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadTemplate
from shared.npz import read_npz

FORMAT = "effigy-landmarks 1"
DATA = Path(__file__).parent / "data" / "face_landmarks.npz"
LANDMARKS, IRIS_LANDMARKS = 478, 10
"""MediaPipe's face mesh with irises: 468 on the skin, then 5 on each eye, the right eye's first."""


@dataclass(frozen=True, eq=False)
class Correspondences:
    """vertices: [N, 3] of the whole template, weights: [N, 3] that sum to 1, spread_m: [N] m, how far the detector's
    points scatter around that place. digest: of the template. provenance: what it was measured on."""

    vertices: NDArray[np.int64]
    weights: NDArray[np.float64]
    spread_m: NDArray[np.float64]
    digest: str
    provenance: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class DetectorResponse:
    """What a detector adds to the template's own points, in the head's axes, m.

    offsets: [N, 3]; expressions: [E, N, 3] at full strength; jaw: [N, 3] per rad; view: [6, N, 3] per term of
    `landmark_model.view_terms`. What is left scatters with the covariance diag(own) + modes modes^T of the image-plane
    residuals [2 N] (x and y of each landmark in turn), m^2: own: [2 N], modes: [2 N, M].
    """

    offsets: NDArray[np.float64]
    expressions: NDArray[np.float64]
    jaw: NDArray[np.float64]
    view: NDArray[np.float64]
    own: NDArray[np.float64]
    modes: NDArray[np.float64]


def landmark_arrays(path: Path, form: str) -> dict[str, NDArray[Any]]:
    """What a file of measured landmarks holds. Raises BadTemplate where it is missing, damaged or no `form`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadTemplate(f"The landmarks' places cannot be read from {path}", found=error.strerror or "") from error
    arrays = read_npz(content, path.name, BadTemplate)
    if "format" not in arrays:
        raise BadTemplate(f"{path.name} is damaged", found=str(KeyError("format")))
    if str(arrays["format"]) != form:
        raise BadTemplate(f"{path.name} is of another version", found=str(arrays["format"]), expected=form)
    return arrays


def read_correspondences(path: Path = DATA) -> tuple[Correspondences, DetectorResponse | None]:
    """Both parts of a file written by `landmark_file`. Raises BadTemplate for a missing or damaged one."""
    arrays = landmark_arrays(path, FORMAT)
    try:
        where = Correspondences(
            arrays["vertices"].astype(np.int64),
            arrays["weights"].astype(np.float64),
            arrays["spread_m"].astype(np.float64),
            str(arrays["digest"]),
            json.loads(str(arrays["provenance"])),
        )
        if "offsets" not in arrays:
            return where, None
        names = ("offsets", "expressions", "jaw", "view", "own", "modes")
        return where, DetectorResponse(*(arrays[name].astype(np.float64) for name in names))
    except (KeyError, ValueError) as error:
        raise BadTemplate(f"{path.name} is damaged", found=str(error)) from error


@lru_cache(maxsize=1)
def embedded_correspondences() -> tuple[Correspondences, DetectorResponse | None]:
    """What ships with Effigy. Raises BadTemplate."""
    return read_correspondences()


def landmark_file(where: Correspondences, response: DetectorResponse | None) -> bytes:
    """Content of an .npz that `read_correspondences` reads."""
    parts: dict[str, Any] = {
        "format": np.array(FORMAT),
        "digest": np.array(where.digest),
        "provenance": np.array(json.dumps(dict(where.provenance), sort_keys=True)),
        "vertices": where.vertices.astype(np.int32),
        "weights": where.weights.astype(np.float32),
        "spread_m": where.spread_m.astype(np.float32),
    }
    if response is not None:
        for name in ("offsets", "expressions", "jaw", "view", "own", "modes"):
            kind = np.float32 if name == "own" else np.float16
            parts[name] = getattr(response, name).astype(kind)
    made = io.BytesIO()
    np.savez_compressed(made, **parts)
    return made.getvalue()
