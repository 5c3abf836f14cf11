"""Image decoding to upright 8-bit RGB arrays, with JPEGs optionally decoded at reduced size."""

import re
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from insightr_nb.errors import DataError
from insightr_nb.files import stand_in

_SCAN, _TABLES, _PROGRESSIVE = 0xDA, 0xC4, 0xC2  # markers of JPEG (ITU-T T.81, table B.1)
_AFTER_SCAN = re.compile(rb"\xff[\xc4\xd9\xda]")
_HOLE = 64  # bytes of zeros in a row that image data do not have
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def read_image(path: str | Path, shortest: int | None = None) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB.

    Applies the EXIF orientation, converts 16 bits to 8, and blends transparent pixels with black. With `shortest`, a
    JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, several times faster, if its shorter side keeps at least
    `shortest` pixels. Raises DataError that names a missing, truncated or invalid file.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    flags = cv2.IMREAD_COLOR
    jpeg = content[:2].tobytes() == b"\xff\xd8"
    if shortest and jpeg:
        flags = _REDUCED.get(_reduction(path, shortest), flags)
    try:
        image = cv2.imdecode(content, flags) if content.size else None
    except cv2.error as error:  # more pixels than OpenCV accepts
        raise DataError(f"{path}: cannot be decoded: {error.err}") from None
    if image is None:
        raise DataError(
            f"{path}: cannot be decoded as an image ({content.size} bytes; truncated, or of an unsupported format)"
            + stand_in(content[:200].tobytes())
        )
    if image.max() < 16 and not jpeg:
        image = _deep(content, image)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    if (alpha := _alpha(path)) is not None and alpha.shape == image.shape[:2]:
        image = (image * (alpha[..., None] / np.float32(255))).astype(np.uint8)
    return image


def jpeg_hole(path: str | Path) -> str:
    """Say whether a JPEG file has a run of zero bytes in its image data, which decoders may pass over in silence.

    An incomplete download or a failing disk leaves such runs. Nothing is said about files that can code even areas as
    zeros: progressive ones, and those whose Huffman tables all code the end of a block (symbol 0) as zeros.

    Returns:
        Description of the damage, or "".
    """
    content = Path(path).read_bytes()
    symbols = []  # of the code of zeros in each table for AC coefficients
    at = 2  # of the first marker segment: 0xff, kind, length of two bytes, content
    while content[:2] == b"\xff\xd8" and content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        kind, end = content[at + 1], at + 2 + int.from_bytes(content[at + 2 : at + 4])
        if kind == _PROGRESSIVE or (kind == _SCAN and not any(symbols)):
            return ""
        if kind == _SCAN:
            after = _AFTER_SCAN.search(content, end)
            # Zeros before the end marker are padding.
            scan = content[end : after.start()].rstrip(b"\0") if after else content[end:]
            start = scan.find(bytes(_HOLE))
            return f"at least {_HOLE} zero bytes in a row at byte {end + start}" if start >= 0 else ""
        if kind == _TABLES:
            table = at + 4  # class and number, how many codes have 1 to 16 bits, their symbols
            while table + 17 < min(end, len(content)):
                symbols += [content[table + 17]] * (content[table] >> 4)
                table += 17 + sum(content[table + 1 : table + 17])
        at = end
    return ""


def _deep(content: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Decode 10 or 12 bits stored in a 16-bit file, as some cameras do; its high bytes alone are nearly black."""
    deep = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if deep is None or deep.dtype != np.uint16:
        return image
    return cv2.convertScaleAbs(deep, alpha=255 / (1023 if deep.max() < 1024 else 4095))


def _alpha(path: str | Path) -> np.ndarray | None:
    """Alpha channel, (H, W) uint8; None if there is none or it is constant (opaque, or written by mistake)."""
    try:
        with Image.open(path) as file:
            if not file.has_transparency_data:
                return None
            alpha = np.asarray(ImageOps.exif_transpose(file).convert("RGBA"))[..., 3]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # OpenCV could read it: use its colours
        return None
    return None if alpha.min() == alpha.max() else alpha


def _reduction(path: str | Path, shortest: int) -> int:
    """Largest factor of 8, 4, 2, 1 that keeps at least `shortest` px on the shorter side; reads only the header."""
    try:
        with Image.open(path) as header:
            side = min(header.size)
    except (OSError, Image.DecompressionBombError):
        return 1
    return next((factor for factor in (8, 4, 2) if side // factor >= shortest), 1)
