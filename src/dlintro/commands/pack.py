"""The command `scripts/pack`: writes a data set once as a few large files, which training reads batch by batch.

torch is imported inside the functions, so that --help and a slip are answered in a fraction of a second.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dlintro.command import Parser, exit_status, heavy_imports, split_words
from dlintro.commands.evaluation_data import data_settings, typed_settings
from dlintro.errors import RunError, UsageError
from dlintro.settings.keys import TEST_IMAGES
from dlintro.terminal import track
from dlintro.text import shown_path, tell, typed

KEYS = ("data", *TEST_IMAGES)
JPEG_SIDE = 224  # of the square that images of a JPEG pack are cut to, unless data.image_size says another


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: pack(sys.argv[1:] if argv is None else argv))


def pack(argv: Sequence[str]) -> int:
    given, words = split_words(argv, lambda key: key == "data" or key.startswith("data."))
    arguments = parser().parse_args(words)
    if arguments.check is not None:
        if given or arguments.out is not None or arguments.jpeg:
            raise UsageError("--check takes a pack's folder and nothing else")
        return check(Path(arguments.check).expanduser())
    settings = typed_settings(given, KEYS)
    if "data" not in settings or arguments.out is None:
        raise UsageError("name the set and the folder to write: scripts/pack data=image_folder data.path=DIR -o PACK")
    if settings["data"] == "packed":
        raise UsageError("data=packed: this set is packed already; name the set that it was made of")
    if arguments.jpeg:
        settings["data.image_size"] = settings.get("data.image_size") or JPEG_SIDE
    module_arguments = data_settings({}, settings)
    with heavy_imports():
        from dlintro.data import ImageDataModule
        from dlintro.data.packing import write_pack
        from dlintro.data.shards import Encoding

    data = ImageDataModule(**module_arguments, in_ram=False)
    encoding: Encoding = "jpeg" if arguments.jpeg or data.source.facts.encoded else "uint8"
    data.prepare_data()
    parts = data.parts()
    if encoding == "jpeg" and not hasattr(parts["train"].images_NCHW, "content"):
        raise UsageError(f"--jpeg: the images of data={settings['data']} are no files; leave --jpeg out")
    out = Path(arguments.out).expanduser().absolute()
    index, left_out = write_pack(out, encoding, data.source.facts, parts, bool(settings.get("data.skip_broken")))
    if left_out:
        images = "1 broken image is" if len(left_out) == 1 else f"{len(left_out)} broken images are"
        tell(f"{images} left out; the first is {left_out[0]}")
    shards = [shard for some in index.splits.values() for shard in some]
    sizes = ", ".join(f"{sum(shard.images for shard in some):,} {split}" for split, some in index.splits.items())
    tell(f"packed: {sizes} images of {len(index.class_names)} classes, {sum(s.bytes for s in shards) / 1e6:,.1f} MB")
    tell(f"train on it: {typed('train')} data=packed data.path={shown_path(out)}")
    return 0


def check(folder: Path) -> int:
    """Compare all bytes of a pack with its checksums."""
    from dlintro.data.shards import read_index, wrong_shards

    index, _ = read_index(folder)
    num = sum(map(len, index.splits.values()))
    results = wrong_shards(folder, index)
    wrong = [found for _ in track(range(num), "comparing checksums") if (found := next(results))]
    if wrong:
        others = f", and {len(wrong) - 1} other shards" if len(wrong) > 1 else ""
        raise RunError(f"{wrong[0]}{others}; copy or pack them again")
    tell(f"{shown_path(folder)}: all {num} shards are whole")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        "scripts/pack",
        "Writes a data set once as a few large files, for sets larger than memory and quick reading. Training reads "
        "them with data=packed data.path=DIR. After Ctrl-C, the same command goes on where it stopped.",
    )
    parser.add_argument("-o", "--out", metavar="DIR", help="the folder to write, new or begun by the same command")
    parser.add_argument(
        "--jpeg",
        action="store_true",
        help="keep JPEG files as they are and make JPEGs of other images, so that training can cut out parts of the "
        f"full pictures (data.augment=[resized_crop,flip]); data.image_size is {JPEG_SIDE} then unless you type it. "
        "Without --jpeg, the pixels are stored in the size that training uses",
    )
    parser.add_argument("--check", metavar="DIR", help="compare every byte of a pack with its SHA-256 checksums")
    parser.epilog = f"KEY=VALUE, as in scripts/train: {', '.join(KEYS)}."
    parser.usage = "scripts/pack data=NAME [KEY=VALUE ...] -o DIR [--jpeg] | scripts/pack --check DIR"
    return parser


if __name__ == "__main__":
    sys.exit(main())
