"""One image file: formats, modes, orientations and greys of more than 8 bits, beside what PIL itself says of them."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from dlintro.data.image_file import (
    FORMATS,
    TURNS,
    BrokenImage,
    Greys,
    broken_image,
    decode,
    grey_values,
    open_image,
    read_file,
    read_header,
)

HEIGHT, WIDTH = 30, 40


def noise(*channels: int, high: int = 256, kind: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(high, size=(HEIGHT, WIDTH, *channels)).astype(kind)


RGB, GREY, ALPHA = noise(3), noise(), noise(4)
DEEP = noise(high=4096, kind=np.uint16)
DEEP[0, :2] = 0, 4095


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(format: str, orientation: int = 6, image: Image.Image | None = None, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if format == "HEIF":  # its writer turns the pixels for the EXIF data that come as bytes
        options["exif"] = exif.tobytes()
        return written(image or Image.fromarray(RGB), format, **options)
    return written(image or Image.fromarray(RGB), format, exif=exif, **options)


def phone() -> bytes:
    """An MPO: two frames, of which the second is another picture."""
    second = Image.fromarray(255 - RGB)
    return turned("MPO", save_all=True, append_images=[second])


def late_exif() -> bytes:
    """A PNG whose EXIF data stand behind the pixels, as some programs write it."""
    plain, exif = written(Image.fromarray(RGB), "PNG"), turned("PNG")
    start = exif.index(b"eXIf") - 4
    chunk = exif[start : start + 12 + int.from_bytes(exif[start : start + 4], "big")]
    return plain[:-12] + chunk + plain[-12:]


def in_xmp() -> bytes:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    return written(Image.fromarray(RGB), "JPEG", xmp=xmp)


def palette(transparent: int | None = None) -> Image.Image:
    image = Image.fromarray(GREY % 3)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def grey_with_key() -> bytes:
    return written(Image.fromarray(GREY), "PNG", transparency=int(GREY[0, 0]))


FILES: dict[str, Callable[[], bytes]] = {
    "rgb.png": lambda: written(Image.fromarray(RGB), "PNG"),
    "rgb.bmp": lambda: written(Image.fromarray(RGB), "BMP"),
    "rgb.tif": lambda: written(Image.fromarray(RGB), "TIFF"),
    "rgb-lzw.tiff": lambda: written(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"),
    "rgb.ppm": lambda: written(Image.fromarray(RGB), "PPM"),
    "rgb.webp": lambda: written(Image.fromarray(RGB), "WEBP"),
    "rgb-lossless.webp": lambda: written(Image.fromarray(RGB), "WEBP", lossless=True),
    "rgb.jpg": lambda: written(Image.fromarray(RGB), "JPEG"),
    "rgb.jfif": lambda: written(Image.fromarray(RGB), "JPEG"),
    "progressive.jpeg": lambda: written(Image.fromarray(RGB), "JPEG", progressive=True),
    "grey.png": lambda: written(Image.fromarray(GREY), "PNG"),
    "grey.jpg": lambda: written(Image.fromarray(GREY), "JPEG"),
    "grey.bmp": lambda: written(Image.fromarray(GREY), "BMP"),
    "grey.tif": lambda: written(Image.fromarray(GREY), "TIFF"),
    "grey.pgm": lambda: written(Image.fromarray(GREY), "PPM"),
    "two-tone.png": lambda: written(Image.fromarray(GREY > 99), "PNG"),
    "two-tone.pbm": lambda: written(Image.fromarray(GREY > 99), "PPM"),
    "fax.tif": lambda: written(Image.fromarray(GREY > 99), "TIFF", compression="group4"),
    "palette.png": lambda: written(palette(), "PNG"),
    "palette.bmp": lambda: written(palette(), "BMP"),
    "palette.gif": lambda: written(palette(), "GIF"),
    "palette.tif": lambda: written(palette(), "TIFF"),
    "animated.gif": lambda: written(palette(), "GIF", save_all=True, append_images=[Image.fromarray(RGB)]),
    "animated.png": lambda: written(
        Image.fromarray(RGB), "PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)]
    ),
    "pages.tif": lambda: written(
        Image.fromarray(RGB), "TIFF", save_all=True, append_images=[Image.fromarray(255 - RGB)]
    ),
    "cmyk.jpg": lambda: written(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "cmyk.tif": lambda: written(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    "ycbcr.tif": lambda: written(Image.fromarray(RGB).convert("YCbCr"), "TIFF"),
    "turned.jpg": lambda: turned("JPEG"),
    "turned-mirrored.jpg": lambda: turned("JPEG", 5),
    "upside-down.jpg": lambda: turned("JPEG", 3),
    "turned.png": lambda: turned("PNG"),
    "turned-grey.png": lambda: turned("PNG", 8, Image.fromarray(GREY)),
    "turned-late.png": late_exif,
    "turned.webp": lambda: turned("WEBP", lossless=True),
    "turned.tif": lambda: turned("TIFF"),
    "turned-mirrored.tif": lambda: turned("TIFF", 7),
    "turned-xmp.jpg": in_xmp,
    "phone.mpo": phone,
    "phone.jpg": phone,
}
FILES |= {f"orientation-{n}.png": lambda n=n: turned("PNG", n) for n in range(1, 10)}
if features.check("avif"):
    FILES |= {"rgb.avif": lambda: written(Image.fromarray(RGB), "AVIF"), "turned.avif": lambda: turned("AVIF")}


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_size_of_its_header_and_pils_own_pixels(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    header = read_header(path, read_file(path))
    with Image.open(path) as image:
        image.seek(0)
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert header.size == (expected.height, expected.width) and not header.deep
    assert (
        header.size == ((WIDTH, HEIGHT) if name.startswith(("turned", "phone")) else (HEIGHT, WIDTH)) or "ori" in name
    )
    assert header.grey == ("grey" in name or name.startswith(("two-tone", "fax")))
    pixels_CHW = decode(path, (3, *header.size))
    assert pixels_CHW.dtype == np.uint8 and np.array_equal(pixels_CHW.transpose(1, 2, 0), np.asarray(expected))
    if header.grey:
        assert np.array_equal(decode(path, (1, *header.size))[0], pixels_CHW[0])
    assert open_image(path, "RGB").size == expected.size


SEE_THROUGH: dict[str, Callable[[], bytes]] = {
    "rgba.png": lambda: written(Image.fromarray(ALPHA), "PNG"),
    "rgba.webp": lambda: written(Image.fromarray(ALPHA), "WEBP", lossless=True),
    "rgba.tif": lambda: written(Image.fromarray(ALPHA), "TIFF"),
    "rgba-turned.png": lambda: turned("PNG", 6, Image.fromarray(ALPHA)),
    "la.png": lambda: written(Image.fromarray(ALPHA).convert("LA"), "PNG"),
    "grey-key.png": grey_with_key,
    "rgb-key.png": lambda: written(Image.fromarray(RGB), "PNG", transparency=tuple(map(int, RGB[0, 0]))),
    "palette-key.png": lambda: written(palette(), "PNG", transparency=1),
    "palette-key.gif": lambda: written(palette(1), "GIF", transparency=1),
}


@pytest.mark.parametrize("name", SEE_THROUGH)
def test_what_is_transparent_shows_white_in_its_share(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SEE_THROUGH[name]())
    with Image.open(path) as image:
        rgba = np.asarray(ImageOps.exif_transpose(image).convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    pixels_CHW = decode(path, (3, *read_header(path, read_file(path)).size))
    assert (rgba[..., 3] < 255).any() and abs(pixels_CHW.transpose(1, 2, 0) - expected).max() <= 1


DEEP_FILES: dict[str, Callable[[], bytes]] = {
    "twelve.png": lambda: written(Image.fromarray(DEEP), "PNG"),
    "twelve.tif": lambda: written(Image.fromarray(DEEP), "TIFF"),
    "twelve-big-endian.tif": lambda: written(Image.fromarray(DEEP.astype(">u2")), "TIFF"),
    "twelve-in-32.tif": lambda: written(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_twelve_bits_keep_256_levels(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(DEEP_FILES[name]())
    content = read_file(path)
    header = read_header(path, content)
    assert header.deep and header.grey and grey_values(path, content) == (0, 4095)
    for pixels_HW in (decode(path, (1, HEIGHT, WIDTH))[0], decode(path, (3, HEIGHT, WIDTH), greys=Greys(0, 4095))[2]):
        assert np.array_equal(pixels_HW, np.rint(DEEP * 255.0 / 4095).astype(np.uint8))
        assert len(np.unique(pixels_HW)) > 240
    as_16_bits = decode(path, (1, HEIGHT, WIDTH), greys=Greys(0, 65_535))[0]
    assert len(np.unique(as_16_bits)) == 17, "the model saw it so, and is asked so"


def test_a_turned_deep_image_is_turned(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(turned("PNG", 6, Image.fromarray(DEEP)))
    pixels_HW = decode(tmp_path / "deep.png", (1, WIDTH, HEIGHT))[0]
    assert np.array_equal(np.rot90(np.rint(DEEP * 255.0 / 4095), -1), pixels_HW)


def test_the_bit_depth_that_the_values_use_decides_what_is_white() -> None:
    depths = {0: 255, 57: 255, 255: 255, 256: 511, 1023: 1023, 4095: 4095, 4096: 8191, 65_535: 65_535}
    assert {high: Greys.of(0, high).white for high in depths} == depths
    assert Greys.of(-1024, 3071) == Greys(-1024, 4095), "a CT in Hounsfield units"
    assert Greys.of(-1, -1) == Greys(-1, 255)
    values = np.array([[-5, 0, 57, 255, 300]])
    assert Greys.of(0, 57).to_8_bits(values).tolist() == [[0, 0, 57, 255, 255]], "8 bits stay as they are"
    everything = np.arange(65_536)[None]
    assert np.array_equal(Greys(0, 65_535).to_8_bits(everything), ((everything + 128) // 257).astype(np.uint8))


def test_floating_point_pixels_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "f.tif").write_bytes(written(Image.fromarray(GREY.astype(np.float32)), "TIFF"))
    with pytest.raises(BrokenImage, match=r"f\.tif: its pixels are floating-point numbers; save it with 8 or 16 bits"):
        read_header(tmp_path / "f.tif", read_file(tmp_path / "f.tif"))


def test_damaged_exif_data_leave_the_pixels_as_they_are(tmp_path: Path) -> None:
    whole = turned("JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(whole.replace(b"Exif\0\0MM\0*", b"Exif\0\0??\0*").replace(b"Exif\0\0II*\0", b"Exif\0\0??*\0"))
    assert path.read_bytes() != whole
    assert read_header(path, read_file(path)).size == (HEIGHT, WIDTH)
    assert open_image(path, "RGB").size == (WIDTH, HEIGHT)


def test_an_image_is_read_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(turned("JPEG"))
    assert read_header(path, read_file(path)).size == (WIDTH, HEIGHT)


def test_no_other_format_is_opened(tmp_path: Path) -> None:
    """For an EPS, PIL would run Ghostscript."""
    path = tmp_path / "drawing.png"
    path.write_bytes(written(Image.fromarray(RGB), "EPS"))
    with pytest.raises(BrokenImage, match=r"drawing\.png: not an image, or damaged"):
        read_header(path, read_file(path))
    assert "EPS" not in FORMATS and sorted(TURNS) == [2, 3, 4, 5, 6, 7, 8]


def test_a_file_that_cant_be_read_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", "none.png"):
        with pytest.raises(BrokenImage, match=f"{name}: not a file"):
            read_file(tmp_path / name)
    assert "\n" not in str(broken_image(Path("a\nb"), ValueError("c\nd")))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_heic_photograph_is_read_where_its_reader_is_installed(tmp_path: Path, orientation: int) -> None:
    pytest.importorskip("pillow_heif")
    path = tmp_path / "iphone.heic"
    smooth = Image.fromarray(RGB).resize((4, 3)).resize((WIDTH, HEIGHT))
    path.write_bytes(turned("HEIF", orientation, smooth, quality=100))
    header = read_header(path, read_file(path))
    assert header.size == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))
    expected = np.asarray(smooth if orientation == 1 else smooth.transpose(TURNS[orientation])).astype(int)
    assert abs(decode(path, (3, *header.size)).transpose(1, 2, 0) - expected).max() < 12
