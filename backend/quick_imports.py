"""Import torch and numba without the parts of them that drawing never calls: half a second less until a first picture.

Only for processes that draw and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

META = "torch._meta_registrations"


def load_torch() -> None:
    """Import torch, but for the kernels of its 'meta' device: see `complete_torch`.

    They say what shapes a compiler of programs may expect. Registering some thousand of them takes a quarter of torch's
    import; torch does so last, and nothing else of it asks for them until something is compiled.
    """
    with _standing_in(META, ModuleType(META)):
        import torch
        import torch._prims.rng_prims  # comes with the kernels otherwise; torch.Generator() asks for it
    if META not in sys.modules:
        vars(torch).pop(META.rpartition(".")[2], None)


def complete_torch() -> None:
    """Import what `load_torch` left out. Has to come before any of torch's compilers is imported."""
    importlib.import_module(META)


def load_numba() -> None:
    """Import numba and what calling its kernels imports, but for scipy's linear algebra.

    numba looks for a BLAS where it declares np.dot, which none of our kernels calls; that alone imports scipy.linalg, a
    tenth of all that a render worker loads.
    """
    with _standing_in("scipy.linalg.cython_blas", None):  # an import of it fails, and numba does without
        import numba.np.arraymath  # noqa: F401


@contextlib.contextmanager
def _standing_in(name: str, instead: ModuleType | None) -> Iterator[None]:
    """For a while an import of `name` finds something else; None makes it fail. Nothing changes where it is loaded."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = instead  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
