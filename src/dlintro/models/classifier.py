"""The base of all image classifiers: one step for train, val and test, exact metrics, optimizer and schedule.

Shapes: B images in a batch, C channels, H height, W width, K classes.
"""

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import Any, Self

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from dlintro.callbacks.interval import ends_interval, steps_after
from dlintro.errors import RunError, UsageError, one_line, refuse_url
from dlintro.models import backbone
from dlintro.models.length import accumulation, num_steps, training_data
from dlintro.models.optim import loss_function, make_optimizer, make_scheduler
from dlintro.models.pixels import Pixels
from dlintro.models.start import load_named
from dlintro.models.tally import ClassTally, Tally
from dlintro.models.weights import Statistics, last_layer
from dlintro.settings.keys import CODE, FILES, Optim

ALL_16_BITS = (0, 65_535)  # what became 0 and 255 before checkpoints noted it
STAGES = ("train", "val", "train_eval", "test", "best/test")
Batch = tuple[torch.Tensor, torch.Tensor]
# Arguments that name files. They are never saved, and never taken from a checkpoint.
FROM_THE_USER = [key.removeprefix("model.") for key in (*FILES, *CODE) if key.startswith("model.")]


class Diverged(RunError):
    """A loss became NaN or infinite."""

    def __init__(self, step: int, stage: str = "train") -> None:
        hint = "" if "test" in stage else ": try a smaller optim.lr"
        super().__init__(f"{stage}/loss is not finite at step {step}{hint}")
        self.step = step


class Classifier(L.LightningModule):
    """Computes logits (B, K) from uint8 images (B, C, H, W). A subclass builds `self.network` in its constructor from
    plain values only. The checkpoint stores them, so `load_from_checkpoint(path)` needs nothing else.

    Raises UsageError for image shapes that the network can't take.
    """

    default_lr = Optim().lr
    smallest_side = 1  # images smaller than this are refused
    padded_side = 1  # images smaller than this are padded with black
    channels_last = False  # memory format of the activations; set where it was measured to be faster
    imagenet_name: str | None = None  # the network of torchvision.models whose published weights fit this one
    evaluates_training_images = True  # asks ImageDataModule for a second validation loader, for train_eval/*

    network: nn.Module
    class_weights_K: torch.Tensor | None

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        optim: Optim | Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.optim = optim if isinstance(optim, Optim) else Optim(**{"lr": self.default_lr} | dict(optim or {}))
        self.save_hyperparameters(ignore=FROM_THE_USER)
        self.hparams.update(image_shape=list(image_shape), optim=asdict(self.optim) | {"betas": list(self.optim.betas)})
        self.image_shape, self.num_classes = tuple(image_shape), num_classes
        self.class_names = list(class_names or map(str, range(num_classes)))
        self.hparams["class_names"] = self.class_names
        if min(image_shape[1:]) < self.smallest_side:
            raise UsageError(
                f"{type(self).__name__} needs images of {self.smallest_side}x{self.smallest_side} pixels or more, "
                f"not {image_shape[1]}x{image_shape[2]}: type data.image_size=32 to enlarge them"
            )
        self.pixels = Pixels(image_shape, self.padded_side)
        self.greys: tuple[int, int] | None = None  # the values of greys of more than 8 bits that became 0 and 255
        self.sees_middle = False  # it is evaluated on the middle of larger images, as ImageNet's networks are
        self.loss = loss_function(self.optim, num_classes)
        self.num_outputs = 1 if self.optim.loss == "bce" else num_classes
        self.register_buffer("class_weights_K", None, persistent=False)  # of the loss; from the data module
        self.tallies = {stage: Tally() for stage in STAGES}
        self.class_tallies = {stage: ClassTally(num_classes) for stage in STAGES if stage != "train"}
        self.values: dict[str, float] = {}  # the last loss and accuracy of each stage, in full precision
        self.images_seen = 0
        self.images_of_batches: list[int] = []  # sizes of the batches that the next optimizer step accumulates
        self.schedule_steps: int | None = None  # length of the schedule, if there is one
        self.weights_file: Path | None = None  # that the training starts from
        self.weights_statistics: Statistics | None = None  # mean and std of the pixels that those weights are made for
        self.always_frozen = False  # model.freeze=backbone
        self.frozen = False  # True while the backbone is held still
        self.test_stage = "test"  # "best/test" while the weights that validation chose are tested

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets this 50 times a step to note its hook. nn.Module would look each time for a parameter in it.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def lr(self) -> float:
        """The learning rate `optim.lr`, under the name that Lightning's Tuner reads and sets."""
        return self.optim.lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self.optim = replace(self.optim, lr=lr)
        self.hparams["optim"]["lr"] = lr

    @property
    def hparams_initial(self) -> Any:
        """The hyperparameters that Lightning gives to the loggers. They include a learning rate that a Tuner found."""
        return copy.deepcopy(self.hparams)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Load as Lightning does, but never run a pickle and never read a file that the checkpoint names: `path` and
        `weights` come from the caller alone."""
        refuse_url(checkpoint_path)
        named = {key: kwargs.get(key) for key in FROM_THE_USER if key in signature(cls).parameters}
        return super().load_from_checkpoint(checkpoint_path, *args, **(kwargs | named | {"weights_only": True}))

    def setup(self, stage: str) -> None:
        data = training_data(self.trainer)
        if stage == "fit" and self.weights_statistics is None and getattr(data, "mean", None) is not None:
            self.pixels.set_statistics(data.mean, data.std)
        if stage == "fit":
            self.greys, self.sees_middle = getattr(data, "greys", None), getattr(data, "sees_middle", False)
            weights = getattr(data, "class_weights", None)
            self.class_weights_K = None if weights is None else torch.tensor(weights, device=self.device)
        # When a training with max_steps is resumed at an epoch's end, Lightning 2.6 would think that it is within the
        # epoch, and would skip the next one.
        self.trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
        if self._compiler_ctx is not None:
            # For torch.compile(model) Lightning compiles the steps too. These append to lists, which breaks the graph.
            # They therefore run uncompiled and call the forward pass, which stays compiled.
            for step in ("training_step", "validation_step", "test_step", "predict_step"):
                vars(self).pop(step, None)

    @property
    def title(self) -> str:
        """The network's name for people."""
        return type(self).__name__

    @property
    def core(self) -> nn.Module:
        """The network that shares its tensors' names with files of weights."""
        return self.network

    @property
    def head(self) -> str:
        """The name in `core` of the layer that makes the logits. The backbone is all that comes before it. For other
        classes this layer is new, and `model.freeze=backbone` trains it alone."""
        return last_layer(self.core)

    def start_from(self, weights: str | None, freeze: str | None) -> None:
        """Load the weights that `model.weights` names and freeze what `model.freeze` names, at the end of the
        constructor. The pixels are normalised as for those weights then, if that is known. Raises UsageError."""
        if weights is not None:
            self.weights_file, self.weights_statistics = load_named(
                weights, self.core, self.head, self.imagenet_name, self.image_shape
            )
        if self.weights_statistics is not None:
            self.pixels.set_statistics(*self.weights_statistics)
        if freeze not in (None, "backbone"):
            raise UsageError(f"model.freeze={freeze}: use backbone or null")
        self.always_frozen = freeze is not None
        parts = {"model.freeze=backbone": freeze, "optim.backbone_lr": self.optim.backbone_lr}
        parts["optim.head_epochs"] = self.optim.head_epochs
        given = [key for key, value in parts.items() if value]
        if given and not backbone.backbone_parameters(self.core, self.head):
            raise UsageError(f"{given[0]}: a {type(self).__name__} of one layer is all head; leave it out")
        if freeze and len(given) > 1:
            raise UsageError(f"{given[1]}: with model.freeze=backbone the backbone never learns; leave one of them out")
        if freeze:
            self.set_frozen(True)

    def set_frozen(self, frozen: bool) -> None:
        """Hold the backbone still, or let it learn again."""
        self.frozen = frozen
        backbone.set_frozen(self.core, self.head, frozen)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            backbone.hold_still(self.core, self.head)
        return self

    def on_train_start(self) -> None:
        self._freeze_in_head_epochs()  # a training that is resumed within an epoch doesn't start one

    def on_train_epoch_start(self) -> None:
        self._freeze_in_head_epochs()

    def _freeze_in_head_epochs(self) -> None:
        frozen = self.always_frozen or self.trainer.current_epoch < self.optim.head_epochs
        if frozen != self.frozen:
            self.set_frozen(frozen)

    def laid_out(self, network: nn.Module) -> nn.Module:
        """Put the weights into the memory format of the activations. Each of the two brings half of the gain."""
        return network.to(memory_format=torch.channels_last) if self.channels_last else network

    def try_out(self, key: str) -> None:
        """Raise UsageError, naming `key`, if the network can't take the images or gives outputs of another shape."""
        try:
            with self.evaluating(), torch.no_grad():
                shape = tuple(self.network(torch.zeros(2, *self.image_shape)).shape)
        except Exception as error:  # a network of the user's may fail in any way
            raise UsageError(f"{key}: the network can't take {self.image_shape} images ({one_line(error)})") from error
        if shape != (2, self.num_outputs):
            raise UsageError(f"{key}: for 2 images the network gives {shape}, but it must give (2, {self.num_outputs})")

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to evaluation mode, and afterwards restore the mode of each module, as some may be frozen."""
        training = {module: module.training for module in self.modules()}
        self.eval()
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        pixels_BCHW = self.pixels(images_BCHW)
        if self.channels_last:
            pixels_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
        logits = self.network(pixels_BCHW)
        # With binary cross entropy, the one logit z becomes two, (0, z): softmax over (0, z) is sigmoid(z).
        return nn.functional.pad(logits, (1, 0)) if self.num_outputs == 1 else logits

    def step(self, batch: Batch, stage: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss (the batch's mean) and the logits (B, K), and count both for the stage's metrics. In
        training the loss is what `optim` and the data's class weights ask for. Elsewhere it is the plain cross entropy,
        so that models trained with different losses can be compared."""
        images_BCHW, labels_B = batch
        logits_BK = self(images_BCHW)
        if stage == "train":
            loss = self.training_loss(logits_BK, labels_B)
        else:
            loss = F.cross_entropy(logits_BK, labels_B)
            self.class_tallies[stage].add(logits_BK, labels_B)
        self.tallies[stage].add(loss, logits_BK, labels_B)
        return loss, logits_BK

    def training_loss(self, logits_BK: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Return the batch's mean of the loss that `optim` asks for, multiplied for each image by its class's weight.
        PyTorch's weighted losses divide by the sum of the batch's weights instead. A rare image would then count less
        the more of its class are in the batch, and accumulated batches would not be one large batch."""
        if self.class_weights_K is None:
            return self.loss(logits_BK, labels_B)
        return (self.class_weights_K[labels_B] * self.loss(logits_BK, labels_B, reduction="none")).mean()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss, _ = self.step(batch, "train")
        self.images_seen += len(batch[1]) * self.trainer.world_size
        # This is not done in a hook after the optimizer's step: a loss that isn't finite is found before it does harm,
        # and a checkpoint written after the step holds an interval that was already logged.
        if ends_interval(self.trainer, batch_idx):
            with self.trainer.profiler.profile("results"):  # type: ignore[attr-defined]  # not declared (Lightning 2.6)
                self.log_interval(batch_idx)
        return loss * self.accumulation_weight(len(batch[1]), batch_idx)

    def accumulation_weight(self, num_images: int, batch_idx: int) -> float:
        """Return the weight of a batch's mean loss in its optimizer step: its number of images relative to the step's
        first batch. The step's total isn't known yet; `backward` divides by it."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.images_of_batches = []
        self.images_of_batches.append(num_images)
        return num_images / self.images_of_batches[0]

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradient. After the last batch of an optimizer step, make it the mean over the step's images, as
        one large batch would give. Lightning has divided each batch's loss by `accumulate_grad_batches`, which is right
        only if all batches are equally large and none is missing."""
        super().backward(loss, *args, **kwargs)
        sizes, whole = self.images_of_batches, self.trainer.accumulate_grad_batches
        if whole > 1 and sizes and steps_after(self.trainer, len(sizes) - 1):
            for gradient in (p.grad for p in self.parameters() if p.grad is not None):
                gradient *= sizes[0] * whole / sum(sizes)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        if dataloader_idx > 1:
            raise UsageError(
                "a Classifier takes two validation loaders at most: the first gives val/*, the second train_eval/*"
            )
        self.step(batch, ("val", "train_eval")[dataloader_idx])

    def test_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self.step(batch, self.test_stage)[1]

    def predict_step(self, batch: Batch | torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
        """Return the logits (B, K) of a batch of images. The batch may have labels too."""
        images_BCHW = batch if isinstance(batch, torch.Tensor) else batch[0]
        logits_BK: torch.Tensor = self(images_BCHW)
        return logits_BK

    def log_interval(self, batch_idx: int) -> None:
        """Log loss, accuracy and learning rate. Only here, and when a tally is full, do numbers leave the device in a
        training epoch."""
        trainer = self.trainer
        step = trainer.global_step + steps_after(trainer, batch_idx)
        if (batches_back := self.tallies["train"].read()) is not None:
            raise Diverged(step - batches_back // trainer.accumulate_grad_batches)
        loss_sum, num_correct, num_images = self.tallies["train"].end_interval()
        row = {"train/loss_step": loss_sum / num_images, "train/acc_step": num_correct / num_images}
        row["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.write(row, step)

    def write(self, row: dict[str, float], step: int) -> None:
        # self.log would count steps in its own way, and write an epoch's values after its checkpoint.
        for logger in self.trainer.loggers:
            logger.log_metrics(row, step=step)

    def on_train_epoch_end(self) -> None:
        self.log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        self.log_epoch("val")
        self.log_epoch("train_eval")

    def on_test_epoch_end(self) -> None:
        self.log_epoch(self.test_stage)

    def log_epoch(self, stage: str) -> None:
        batches_back = self.tallies[stage].read() or 0
        loss_sum, num_correct, num_images = self.tallies[stage].end_epoch()
        counts = self.class_tallies[stage].end_epoch() if stage != "train" else None
        if self.trainer.sanity_checking:  # a user's own Trainer may check two batches before training
            return
        if not math.isfinite(loss_sum):  # includes the last steps, which no logging interval may have read
            steps_back = batches_back // self.trainer.accumulate_grad_batches if stage == "train" else 0
            raise Diverged(self.trainer.global_step - steps_back, stage)
        if self.trainer.world_size > 1:
            sums = torch.tensor([loss_sum, num_correct, num_images], device=self.device)
            loss_sum, num_correct, num_images = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
            if counts is not None:
                counts = self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum").cpu()
        if not num_images:
            return
        row = {f"{stage}/loss": loss_sum / num_images, f"{stage}/acc": num_correct / num_images}
        if counts is not None:
            row |= {f"{stage}/{name}": value for name, value in self.class_tallies[stage].shares(counts).items()}
        self.values |= row
        if self.trainer.state.fn == "fit":
            self.log_dict(row, logger=False)  # in float32, for callbacks that monitor them
            self.write(row, self.trainer.global_step)
        else:  # Lightning returns, prints and writes them
            self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in row.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.tallies["train"].read() is not None:
            raise Diverged(self.trainer.global_step)
        checkpoint["dlintro"] = {
            "model": type(self).__name__,
            "images_seen": self.images_seen,
            "greys": self.greys,
            "sees_middle": self.sees_middle,
            "schedule_steps": self.schedule_steps,
            "values": self.values,
            "tally": {"interval": self.tallies["train"].interval, "epoch": self.tallies["train"].epoch},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get("dlintro", {})
        self.images_seen = saved.get("images_seen", 0)
        self.greys, self.sees_middle = saved.get("greys", ALL_16_BITS), saved.get("sees_middle", False)
        self.schedule_steps = saved.get("schedule_steps")
        self.values = dict(saved.get("values", {}))
        self.tallies["train"] = Tally(**saved.get("tally", {}))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        trainer, optim = self.trainer, self.optim
        data = training_data(trainer)
        images_per_step = optim.lr_reference_batch
        if hasattr(data, "images_per_step"):
            images_per_step = data.images_per_step(accumulation(trainer, epoch=0) * trainer.world_size)
        # Lightning 2.6 can't clip gradients for a fused optimizer under mixed precision.
        fused = not (trainer.gradient_clip_val and "mixed" in str(trainer.precision))
        parameters, apart = list(self.parameters()), list[nn.Parameter]()
        if self.always_frozen or optim.backbone_lr:
            parameters = list(self.core.get_submodule(self.head).parameters())
        if optim.backbone_lr:
            apart = backbone.backbone_parameters(self.core, self.head)
        optimizer = make_optimizer(optim, parameters, optim.scaled_lr(images_per_step), fused, apart)
        self.schedule_steps = self._schedule_steps() if optim.has_length else None
        scheduler = make_scheduler(optim, optimizer, self.schedule_steps or 1)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _schedule_steps(self) -> int:
        """Return the optimizer steps of the whole run. UsageError if it has no end, or if the end has changed."""
        asked = f"optim.schedule={self.optim.schedule}" if self.optim.schedule != "none" else "optim.warmup"
        steps = num_steps(self.trainer)
        if steps is None:
            raise UsageError(
                f"{asked} needs to know where the training ends: give the Trainer max_epochs or max_steps (max_time "
                f"may end it earlier), or give the model optim={{'schedule': 'none'}}"
            )
        before = self.schedule_steps if self.trainer.ckpt_path else None
        if before not in (None, steps):
            raise UsageError(
                f"{asked} was planned for {before} steps when this training began, and can't change to {steps} now: "
                f"give the Trainer its old length, or train a model of load_from_checkpoint without ckpt_path"
            )
        return steps
