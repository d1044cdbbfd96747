"""Opening a picture file that came from somewhere else: five formats, a bounded size, and one sentence where it fails.

Pillow tells formats by their content, not their name, and for some of them starts other programs (EPS runs
Ghostscript); only formats that it decodes itself are let in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image

from shared.errors import EffigyError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 1 << 27
DAMAGE = (
    *(OSError, ValueError, TypeError, SyntaxError, EOFError, LookupError, ArithmeticError, MemoryError, RuntimeError),
    *(AttributeError, NotImplementedError, Image.DecompressionBombError),
)
"""What Pillow raises for a file that is none; its readers of metadata add to the usual ones."""


@contextmanager
def open_picture(
    source: Path | IO[bytes], what: str, error_class: type[EffigyError], do: str = ""
) -> Iterator[Image.Image]:
    """The picture, closed afterwards. What its decoding raises inside the block becomes the same sentence.

    what: how the sentence begins ("image 0.png"); do: how it ends. Raises `error_class`.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
            yield image
    except EffigyError:
        raise
    except DAMAGE as error:
        raise error_class(f"{what} cannot be read", found=str(error)[:160], do=do) from error
