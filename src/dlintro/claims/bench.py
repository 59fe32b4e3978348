"""Gives an experiment its seeds, the project's data and Trainer, and keeps its measurements and pictures."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from dlintro.accelerators import Device
from dlintro.claims.claim import FIRST_SEED, QUICK_SEEDS, Claim
from dlintro.claims.measurements import DIVERGED, Measurements, Row, append, read, write
from dlintro.claims.statements import Comparison
from dlintro.claims.verdict import comparisons
from dlintro.data import ImageDataModule
from dlintro.data.loader import Images
from dlintro.data.source import Source, Split
from dlintro.models import Classifier
from dlintro.models.classifier import Diverged
from dlintro.models.optim import make_optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
Change = Callable[[torch.Tensor], torch.Tensor]
EVALUATION_BATCH = 500


class Loaded:
    """A source that reads its pixels once for many runs; `change` turns them into other images."""

    def __init__(self, source: Source, change: Change | None) -> None:
        source.prepare()
        self.splits: dict[str, Split] = source.load(in_ram=True)
        self.facts = source.facts
        if change is not None:
            self.splits = {name: (change(images), labels) for name, (images, labels) in self.splits.items()}
            channels, height, width = self.splits["train"][0].shape[1:]
            self.facts = replace(source.facts, image_shape=(channels, height, width), mean=None, std=None)

    def prepare(self) -> None: ...

    def load(self, in_ram: bool) -> dict[str, Split]:
        return self.splits


SOURCES: dict[
    tuple[str, tuple[int, ...], Change | None], Loaded
] = {}  # of this process; the key is (name, shape, change)


@dataclass
class Cell:
    """One run of one arm. Its records are written together when the run is done, or not at all."""

    claim: str
    arm: str
    seed: int
    rows: list[Row] = field(default_factory=list)

    @property
    def first(self) -> bool:
        """Return whether this is the arm's first run, which curves and pictures show."""
        return self.seed == FIRST_SEED

    def record(self, quantity: str, value: float | None = None, outcomes: Sequence[float] | torch.Tensor = ()) -> None:
        """Record a value, or outcomes whose mean is the value."""
        self.rows.append(make_row(self.claim, quantity, value, self.arm, self.seed, None, outcomes))


class Bench:
    """`folder` gets measurements.csv and the pictures. Until the end the cells are in cells.csv, so a stopped
    experiment keeps what it measured, and `cells` skips those cells."""

    def __init__(
        self,
        folder: Path,
        name: str,
        claim: Claim,
        device: Device,
        quick: bool = False,
        progress: Callable[[str], None] = lambda words: None,
    ) -> None:
        self.folder, self.name, self.claim, self.device, self.quick = folder, name, claim, device, quick
        self.cells_file = folder / "cells.csv"
        self.seeds = min(claim.seeds, QUICK_SEEDS) if quick else claim.seeds
        self.measurements = Measurements()
        self.progress = progress
        self.cell: Cell | None = None
        self._done: set[tuple[str, int]] = set()  # cells
        self._of_cells: list[Row] = []
        self._of_none: list[Row] = []

    def pick(self, full: T, quick: T) -> T:
        """Return `quick` with --quick, else `full`."""
        return quick if self.quick else full

    def resume(self) -> None:
        """Read the cells that an interrupted experiment measured."""
        if self.cells_file.is_file():
            self._of_cells = read(self.cells_file).rows
            self._done = {(row.arm, row.seed) for row in self._of_cells}
            self.measurements.rows += self._of_cells

    def record(
        self,
        quantity: str,
        value: float | None = None,
        *,
        arm: str = "",
        seed: int = 0,
        expected: float | None = None,
        outcomes: Sequence[float] | torch.Tensor = (),
    ) -> None:
        """Record what belongs to no cell. A resumed experiment measures it anew; `finish` writes it."""
        self._of_none.append(make_row(self.name, quantity, value, arm, seed, expected, outcomes))
        self.measurements.rows.append(self._of_none[-1])

    def cells(self, arms: Iterable[str]) -> Iterator[Cell]:
        """Yield every arm with every seed that was not measured yet. The arms take turns, so that a disturbed machine
        disturbs all of them. The arm that the claim's core compares with itself goes on with further seeds. Random
        numbers start from the seed. Two calls in one experiment may have no arm in common."""
        arms = list(arms)
        seed = FIRST_SEED
        while wanted := [arm for arm in arms if seed < FIRST_SEED + self.seeds_of(arm)]:
            for arm in wanted:
                if (arm, seed) in self._done:
                    continue
                self.progress(f"{arm}, seed {seed}")
                L.seed_everything(seed, verbose=False)
                self.cell = Cell(self.name, arm, seed)
                yield self.cell
                append(self.cells_file, self.cell.rows)
                self._of_cells += self.cell.rows
                self.measurements.rows += self.cell.rows
                self._done.add((arm, seed))
            seed += 1
        self.cell = None

    def seeds_of(self, arm: str) -> int:
        """Return n, or 2n for the arm that is compared with itself, or 3n if that comparison's interval misses 0."""
        core = self.claim.core
        if not isinstance(core, Comparison) or arm != core.less:
            return self.seeds
        found = comparisons(core, self.measurements, self.seeds)
        return self.seeds * (3 if found and not found[0].contains_0 else 2)

    def finish(self) -> None:
        """Write measurements.csv, whole or not at all."""
        write(self.folder / "measurements.csv", [*self._of_cells, *self._of_none])

    def show(self, name: str, caption: str, figure: "Figure") -> None:
        """Save a picture for the report and for lectures as NAME.png and NAME.svg, with its caption inside."""
        for kind in ("png", "svg"):
            figure.savefig(self.folder / f"{name}.{kind}", metadata={"Title": caption})

    def data(self, name: str, *, change: Change | None = None, **arguments: Any) -> ImageDataModule:
        """Return the project's data module, set up. Its pixels are read once per process. `change` is a function that
        turns them into other uint8 images (N, C, H, W); define it at module level, so that it is the same each time."""
        data = ImageDataModule(name, **arguments)
        key = (name, data.image_shape, change)
        if key not in SOURCES:
            SOURCES[key] = Loaded(data.source, change)
        data.source = SOURCES[key]
        facts = data.source.facts
        data.image_shape, data.mean, data.std = facts.image_shape, facts.mean, facts.std
        data.setup()
        return data

    def train(
        self,
        model: Classifier,
        data: ImageDataModule,
        *,
        epochs: int = 1,
        steps: int = -1,
        precision: str = "32-true",
        callbacks: Sequence[Callback] = (),
        evaluate: bool = False,
    ) -> bool:
        """Train with the project's Trainer settings, without checkpoints. Returns False if the training diverged; the
        model then stays as it ended. `steps` limits the training instead of `epochs`. `evaluate` adds validation and
        train_eval at each epoch's end."""
        logger: TensorBoardLogger | bool = False
        if self.cell is not None and self.cell.first:  # keep the curves of one run per arm
            version = "".join(char if char.isalnum() else "-" for char in self.cell.arm)
            logger = TensorBoardLogger(str(self.folder), name="curves", version=version, default_hp_metric=False)
        trainer = L.Trainer(
            accelerator=self.device.kind,
            devices=[self.device.index] if self.device.index else 1,
            max_epochs=epochs if steps < 0 else -1,
            max_steps=steps,
            precision=precision,  # type: ignore[arg-type]
            logger=logger,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if evaluate else 0,
        )
        try:
            trainer.fit(model, datamodule=data)
        except Diverged:
            if self.cell is not None:
                self.cell.record(DIVERGED, 1)
            return False
        finally:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.close()
        return True

    def training_step(self, model: Classifier, batch_size: int) -> Callable[[], None]:
        """Return a training step on one batch of random images (forward, backward, optimizer), for profilers."""
        device = torch.device(self.device.kind)
        model.to(device).train()
        optimizer = make_optimizer(model.optim, model.parameters(), lr=1e-3, fused=True)
        images_BCHW = torch.randint(256, (batch_size, *model.image_shape), dtype=torch.uint8, device=device)
        labels_B = torch.randint(model.num_classes, (batch_size,), device=device)

        def step() -> None:
            optimizer.zero_grad()
            model.loss(model(images_BCHW), labels_B).backward()
            optimizer.step()

        return step

    def logits(self, model: Classifier, images: Images | torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of uint8 images (N, C, H, W) or of a split, in evaluation mode, on the CPU."""
        if isinstance(images, Images):
            pixels: torch.Tensor = images.images_NCHW
            images = pixels if images.indices is None else pixels[images.indices]
        model.to(torch.device(self.device.kind, self.device.index) if self.device.kind != "cpu" else "cpu").eval()
        with torch.inference_mode():
            return torch.cat([model(part.to(model.device)).float().cpu() for part in images.split(EVALUATION_BATCH)])

    def correct(self, model: Classifier, images: Images) -> torch.Tensor:
        """Return 1 for each image that is classified right and 0 for the others: float (N,)."""
        return (self.logits(model, images).argmax(1) == images.labels).float()


def log_results(folder: Path, measurements: Measurements, result: Mapping[str, Any]) -> None:
    """Write the pictures, the verdicts as text, and each quantity that has several seeds, against the seeds, for
    TensorBoard. A value that was measured once would be a chart of one dot; measurements.csv has it."""
    charts: dict[str, dict[int, float]] = {}
    for row in measurements:
        charts.setdefault(f"seeds/{row.quantity}/{row.arm or row.claim}", {})[row.seed] = row.value
    with SummaryWriter(str(folder)) as writer:
        for tag, values in charts.items():
            for seed, value in values.items() if len(values) > 1 else ():
                writer.add_scalar(tag, value, seed)
        lines = [f"**{result['verdict']}**", ""]
        lines += [f"- {s['verdict']}: {s['says']}. {s['measured']}" for s in result["statements"]]
        writer.add_text("verdict", "\n".join(lines))
        for path in sorted(folder.glob("*.png")):
            writer.add_image(f"pictures/{path.stem}", np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")


def make_row(
    claim: str,
    quantity: str,
    value: float | None,
    arm: str,
    seed: int,
    expected: float | None,
    outcomes: Sequence[float] | torch.Tensor,
) -> Row:
    """Make a row. Outcomes are kept to six digits, and without a value their mean is the value."""
    kept = tuple(float(f"{float(number):.6g}") for number in outcomes)
    if value is None:
        assert kept, f"{quantity}: neither a value nor outcomes"
        value = float(np.mean(kept))
    return Row(claim, quantity, arm, seed, float(value), None if expected is None else float(expected), kept)
