"""
Synthetic images as PNG files that say what they are, and nothing else.

Each carries `synthetic=true`, the generator's SHA-256, class, seed and date as text chunks, and the IPTC digital source
type for media made by a trained model as XMP, so that it is known as synthetic wherever it goes.
Sources: PNG, W3C Recommendation of 2025, sections 5.3 and 11.3.3; IPTC NewsCodes, digitalsourcetype.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from .errors import KitError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = "XML:com.adobe.xmp"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    "<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    "</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>"
)
TAGS = ("synthetic", "generator_sha256", "base", "class", "seed", "date", "Software")
PARTS = {b"IHDR", b"tEXt", b"iTXt", b"IDAT", b"IEND"}
LONGEST_TAG = 200  # bytes
# Of packed rows over the same rows packed at zlib's fastest level: 1.001 at most for what encode() writes (photographs
# 0.85, noise 1.001), which is a tenth of the cost of encoding them again. The rest is for other builds of zlib.
LOOSENESS, LOOSE_BYTES = 1.02, 64
PIXELS_A_PART = 65_536  # bytes of packed pixels that Pillow puts into a part before it begins the next
TRUE_COLOUR = struct.pack(">BBBBB", 8, 2, 0, 0, 0)  # 8 bits, RGB, deflate, adaptive filters, not interlaced

Pixels = NDArray[np.uint8]


class PngError(KitError):
    """An image that is no PNG of the kit."""

    default_code = "png_invalid"


def encode(pixels: Pixels, tags: dict[str, str]) -> bytes:
    """Return (S, S, 3) as PNG with `tags`, which are TAGS. Equal arguments give equal bytes on one zlib."""
    info = PngImagePlugin.PngInfo()
    for name in TAGS:
        info.add_text(name, tags[name])
    info.add_itxt(XMP_KEYWORD, XMP)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG", pnginfo=info)
    return written.getvalue()


def decode(data: bytes, side: int) -> tuple[Pixels, dict[str, str]]:
    """
    Return the pixels (side, side, 3) and the tags.

    Raises:
        PngError: the file is not of that size, holds a chunk or a byte that encode() does not write, or lacks a tag.
    """
    chunks = list(_chunks(data))
    kinds = [kind for kind, _ in chunks]
    if odd := [kind for kind in kinds if kind not in PARTS]:
        name = odd[0].decode("latin-1")
        raise PngError(f"it holds a part that the kit does not write ({name!r})", code="unknown_chunk")
    tags = _tags([(kind, body) for kind, body in chunks if kind in {b"tEXt", b"iTXt"}])
    if kinds != [b"IHDR", *[b"tEXt"] * len(TAGS), b"iTXt", *[b"IDAT"] * kinds.count(b"IDAT"), b"IEND"]:
        raise PngError("its parts are not in the order in which the kit writes them", code="wrong_order")
    if chunks[0][1] != struct.pack(">II", side, side) + TRUE_COLOUR or chunks[-1][1]:
        raise PngError(f"it is no image of {side} x {side} pixels in 8-bit colour", code="wrong_size")
    _require_pixels([body for kind, body in chunks if kind == b"IDAT"], side)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError):  # as Pillow calls a row with an unknown filter
        raise PngError("its pixels are damaged", code="damaged") from None
    return pixels, tags


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, body) of each chunk; nothing stands before, between or behind them."""
    if not data.startswith(SIGNATURE):
        raise PngError("it is no PNG file", code="not_png")
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if place + 8 > len(data):
            raise PngError("it is cut short", code="cut_short")
        length, kind = struct.unpack_from(">I4s", data, place)
        body, check = data[place + 8 : place + 8 + length], data[place + 8 + length : place + 12 + length]
        if len(check) != 4:
            raise PngError("it is cut short", code="cut_short")
        if zlib.crc32(kind + body) != int.from_bytes(check, "big"):
            raise PngError("a part of it is damaged", code="damaged")
        yield kind, body
        place += 12 + length
    if place != len(data):
        raise PngError("it hides bytes behind its end", code="hidden_bytes")


def _require_pixels(parts: list[bytes], side: int) -> None:
    """Raise PngError unless the data are exactly the rows of the image: no bomb, and nothing behind them."""
    if any(len(part) < PIXELS_A_PART for part in parts[:-1]):
        raise PngError("its pixels lie in more parts than they need", code="hidden_bytes")
    expected = side * (1 + 3 * side)
    unpack = zlib.decompressobj()
    try:
        rows = unpack.decompress(packed := b"".join(parts), expected + 1)
    except zlib.error:
        raise PngError("its pixels are damaged", code="damaged") from None
    if len(rows) != expected or not unpack.eof or unpack.unused_data:
        raise PngError("its data are not exactly its pixels", code="hidden_bytes")
    # The same rows can be packed in many ways, some with room for a text.
    if len(packed) > LOOSENESS * len(zlib.compress(rows, 1)) + LOOSE_BYTES:
        raise PngError("it is longer than its pixels need, so it could hide other data", code="hidden_bytes")


def _tags(texts: list[tuple[bytes, bytes]]) -> dict[str, str]:
    marked = (XMP_KEYWORD + "\0\0\0\0\0" + XMP).encode()  # not compressed; no language, no translated keyword
    if [body for kind, body in texts if kind == b"iTXt"] != [marked]:
        raise PngError("it is not marked as synthetic (IPTC digital source type)", code="not_marked")
    found: dict[str, str] = {}
    for body in (body for kind, body in texts if kind == b"tEXt"):
        name, _, value = body.decode("latin-1").partition("\0")
        if name not in TAGS or name in found or len(value) > LONGEST_TAG or not value.isprintable():
            raise PngError(f"it says something that the kit does not write ({name[:40]!r})", code="unknown_tag")
        found[name] = value
    if missing := [name for name in TAGS if name not in found]:
        raise PngError(f"it does not say: {', '.join(missing)}", code="tag_missing")
    if list(found) != list(TAGS):
        raise PngError("its texts are not in the order in which the kit writes them", code="wrong_order")
    return found
