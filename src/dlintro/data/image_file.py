"""Reads one image file. Training, evaluation and predict all read by these rules.

- A photograph is turned as its EXIF orientation says, in every format that has one. The size in the header is the size
  after that.
- Of several frames (GIF, TIFF, the MPO of phones) the first is read.
- Pixels of 8 bits stay as they are. Greys with more bits are scaled by a `Greys`.
- Transparent pixels show white. Palettes, CMYK and other colours become RGB, and black and white becomes 0 and 255.

Shapes: C channels, H height, W width.
"""

import hashlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from dlintro.data.pixels import PixelArray
from dlintro.errors import RunError, one_line
from dlintro.text import printable

# The endings by format. There are no other formats: for an EPS, PIL would run Ghostscript.
FORMATS = {
    "PNG": ".png .apng",
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",  # PIL finds out by itself that a JPEG is an MPO
    "BMP": ".bmp",
    "GIF": ".gif",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
    "PPM": ".pgm .ppm .pbm .pnm",
}
if features.check("avif"):
    FORMATS["AVIF"] = ".avif"
if importlib.util.find_spec("pillow_heif"):
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS["HEIF"] = ".heic .heif"
SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes.split()}
NEEDS_PILLOW_HEIF = {".heic", ".heif"} - SUFFIXES
TURNED_BY_PIL = ("TIFF", "HEIF")  # their readers turn the pixels, and give the header's size after that
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG_ORIENTATION = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # the chunks of a PNG that may have one
MAX_SIDE = 16_384
Image.MAX_IMAGE_PIXELS = MAX_SIDE**2


class BrokenImage(RunError):
    """A file that can't be decoded. Its text ends with "; " and what to do."""

    @property
    def what(self) -> str:
        """The text without what to do."""
        return str(self).rpartition("; ")[0]


@dataclass(frozen=True)
class Greys:
    """The values of greys with more than 8 bits that become 0 and 255. Values between are rounded to the nearest of the
    256 levels, and values beyond are cut off."""

    black: int
    white: int

    @classmethod
    def of(cls, low: int, high: int) -> "Greys":
        """Return the greys of the bit depth that holds the values from `low` to `high`: for a 12-bit X-ray, whose
        values go up to 4095, white is 4095. Values that fit into 8 bits stay as they are."""
        black = 0 if low >= 0 else -(2 ** (-low - 1).bit_length())
        return cls(black, max(255, 2 ** max(high, 0).bit_length() - 1))

    def to_8_bits(self, values_HW: NDArray[np.int64]) -> PixelArray:
        span = self.white - self.black
        levels_HW: PixelArray = (((values_HW - self.black).clip(0, span) * 255 + span // 2) // span).astype(np.uint8)
        return levels_HW


@dataclass(frozen=True)
class Header:
    """`size` is (height, width) of the image when it is decoded. `grey`: it has one channel. `deep`: it is grey with
    more than 8 bits. `cut`: it has more than one channel of 16 bits, of which PIL reads the upper 8."""

    size: tuple[int, int]
    grey: bool
    deep: bool
    cut: bool


def read_file(path: Path) -> bytes:
    """Return the file's bytes. Raises BrokenImage for what isn't a file, and for a file that can't be read."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise broken_image(path, ValueError("not a file, or a link that leads nowhere"))
    try:
        return path.read_bytes()
    except OSError as error:
        raise broken_image(path, error) from None


def content_hash(content: bytes) -> str:
    """Return the first 128 bits of SHA-256, in hex."""
    return hashlib.sha256(content).hexdigest()[:32]


def read_header(path: Path, content: bytes) -> Header:
    """Return what is known of the image in the file `path`, whose bytes are `content`, without decoding it. Raises
    BrokenImage for a file that isn't an image, and RunError for an image that is too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error is handled below
            with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as image:
                width, height = image.size
                if orientation(image, content) >= 5:
                    width, height = height, width
                if image.mode == "F":
                    raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
                grey = Image.getmodebase(image.mode) == "L"
                cut = not is_deep(image) and any(";16" in str(tile) for tile in image.tile)
                header = Header((height, width), grey, is_deep(image), cut)
    except Image.DecompressionBombError:
        raise RunError(f"{printable(path)}: larger than {MAX_SIDE} x {MAX_SIDE} pixels; make it smaller") from None
    except Exception as error:  # PIL's readers raise anything on a damaged file
        raise broken_image(path, error) from None
    if max(height, width) > MAX_SIDE:
        raise RunError(
            f"{printable(path)}: {width} x {height} pixels, but a side has {MAX_SIDE} at most; make it smaller"
        )
    return header


def orientation(image: Image.Image, content: bytes) -> int:
    """Return the EXIF orientation (1 to 8) by which the pixels are still to be turned; 1 leaves them as they are."""
    if image.format in TURNED_BY_PIL:
        return 1
    # PIL decodes a whole PNG to look for EXIF data behind the pixels.
    if image.format == "PNG" and not any(chunk in content for chunk in PNG_ORIENTATION):
        return 1
    try:
        found = image.getexif().get(0x0112, 1)
    except Exception:  # the pixels may be whole though the EXIF data are damaged
        return 1
    return found if found in TURNS else 1


def is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I")


def decode(
    path: Path,
    shape: tuple[int, int, int],
    content: bytes | None = None,
    greys: Greys | None = None,
    paper: Callable[[Image.Image], int] = lambda image: 255,
) -> PixelArray:
    """Decode to uint8 (C, H, W). An image of this shape is returned bit for bit. From any other, the middle part that
    has the shape's proportions is resized (bilinear, antialiased). The other arguments are those of `open_image`."""
    channels, height, width = shape
    image = open_image(path, "L" if channels == 1 else "RGB", content, greys, paper)
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    pixels: PixelArray = np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)
    return pixels


def open_image(
    path: Path,
    mode: str,
    content: bytes | None = None,
    greys: Greys | None = None,
    paper: Callable[[Image.Image], int] = lambda image: 255,
) -> Image.Image:
    """Decode the whole image, upright, to `mode`, L or RGB, with 8 bits. `content` holds the file's bytes if they were
    read before. Without `greys`, greys of more than 8 bits are scaled by the bit depth that the image itself uses.
    `paper` returns the grey that the transparent part of an RGBA image shows. Raises BrokenImage."""
    content = read_file(path) if content is None else content
    try:
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as file:
            image = upright(file, content)
            if is_deep(image):
                values_HW = np.asarray(image).astype(np.int64)
                found = greys or Greys.of(int(values_HW.min()), int(values_HW.max()))
                image = Image.fromarray(found.to_8_bits(values_HW))
            if image.has_transparency_data:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*[paper(rgba)] * 3, 255)), rgba)
            return image if image.mode == mode else image.convert(mode)
    except MemoryError:
        raise
    except Exception as error:
        raise broken_image(path, error) from None


def upright(file: Image.Image, content: bytes) -> Image.Image:
    """Decode the first frame and turn it by its EXIF orientation."""
    turn = TURNS.get(orientation(file, content))
    file.load()
    return file if turn is None else file.transpose(turn)


def grey_values(path: Path, content: bytes) -> tuple[int, int]:
    """Return the smallest and the largest value of a grey image with more than 8 bits. Raises BrokenImage."""
    try:
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as file:
            values_HW = np.asarray(file)
            return int(values_HW.min()), int(values_HW.max())
    except MemoryError:
        raise
    except Exception as error:
        raise broken_image(path, error) from None


def broken_image(path: Path, error: Exception) -> BrokenImage:
    why = "not an image, or damaged" if isinstance(error, UnidentifiedImageError) else one_line(error)
    if (suffix := path.suffix.lower()) in NEEDS_PILLOW_HEIF:
        why = f"the package pillow-heif, which reads {suffix}, is not installed"
    return BrokenImage(
        f"{printable(path)}: {why}; mend or remove it, or type data.skip_broken=true to leave such files out"
    )
