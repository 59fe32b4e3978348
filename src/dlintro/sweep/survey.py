"""What this machine has for jobs to share. Asked in a process of its own: the sweep itself never imports torch."""

import os
from dataclasses import dataclass
from multiprocessing.connection import Connection

VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


@dataclass(frozen=True)
class Survey:
    num_cores: int
    num_accelerators: int


def survey(answer: Connection) -> None:
    """The process's work."""
    import torch

    from dlintro.accelerators import num_usable_cores

    accelerators = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    answer.send(Survey(num_usable_cores(), accelerators))


def only_device(number: int) -> dict[str, str]:
    """The environment in which a process sees accelerator `number` alone, of those that are visible here."""
    environment = {}
    for name in VISIBLE_DEVICES:
        visible = [word for word in os.environ.get(name, "").split(",") if word]
        environment[name] = visible[number] if number < len(visible) else str(number)
    return environment
