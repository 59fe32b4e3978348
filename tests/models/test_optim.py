"""The learning rate of every step and the first steps of each optimizer follow their published formulas."""

import math

import pytest
import torch

from dlintro.models.optim import make_optimizer, make_scheduler
from dlintro.settings.keys import Optim

PEAK = 0.5


def rates(num_steps: int, schedule: str, warmup: float) -> list[float]:
    optim = Optim(lr=PEAK, schedule=schedule, warmup=warmup)  # type: ignore[arg-type]
    optimizer = make_optimizer(optim, [torch.nn.Parameter(torch.zeros(1))], PEAK, fused=False)
    scheduler = make_scheduler(optim, optimizer, num_steps)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return found


def expected(step: int, num_steps: int, schedule: str, warmup: float) -> float:
    ramp = min(round(warmup * num_steps), num_steps - 1)
    if schedule == "onecycle":
        if num_steps < 4:
            return PEAK
        # PyTorch's OneCycleLR is two half cosines: from 1/25 of the peak to the peak, then down to 1/250,000 of it.
        top = (min(max(ramp, 2), num_steps - 2) if ramp else 0.3 * num_steps) - 1
        low, share = (
            (PEAK / 25, step / top) if step <= top else (PEAK / 250_000, 1 - (step - top) / (num_steps - 1 - top))
        )
        return low + (PEAK - low) * (1 - math.cos(math.pi * share)) / 2
    if step < ramp:
        return PEAK * (step + 1) / (ramp + 1)
    share = (step - ramp) / (num_steps - ramp)
    third = math.ceil((num_steps - ramp) / 3)
    return (
        PEAK
        * {"none": 1.0, "step": 0.1 ** ((step - ramp) // third), "cosine": (1 + math.cos(math.pi * share)) / 2}[
            schedule
        ]
    )


@pytest.mark.parametrize("schedule", ["none", "step", "cosine", "onecycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("num_steps", [1, 3, 4, 7, 40])
def test_the_rate_of_each_step_is_that_of_the_formula(schedule: str, warmup: float, num_steps: int) -> None:
    wanted = [expected(step, num_steps, schedule, warmup) for step in range(num_steps)]
    assert rates(num_steps, schedule, warmup) == pytest.approx(wanted, rel=1e-6)


def stepped(optim: Optim, gradients: list[float]) -> float:
    """Return a weight that starts at 2, after a step for each gradient."""
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer(optim, iter([weight]), optim.lr, fused=False)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    return float(weight.detach())


def test_sgd_adds_the_decay_to_the_gradient_and_looks_ahead_with_nesterov() -> None:
    first, second = 1.0 + 0.1 * 2, 3.0
    plain = Optim(name="sgd", lr=0.1, momentum=0.5, weight_decay=0.1)
    after = 2 - 0.1 * first
    second += 0.1 * after
    assert stepped(plain, [1.0, 3.0]) == pytest.approx(after - 0.1 * (0.5 * first + second))
    ahead = Optim(name="sgd", lr=0.1, momentum=0.5, nesterov=True)
    assert stepped(ahead, [1.0]) == pytest.approx(2 - 0.1 * (1 + 0.5 * 1))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("everything", [True, False])
def test_biases_and_scales_may_be_left_out_of_the_decay(name: str, everything: bool) -> None:
    """Without a gradient, the decay alone moves a parameter."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(2, 3)
    )
    optim = Optim(name=name, lr=0.1, weight_decay=0.2, decay_biases=everything, schedule="onecycle")  # type: ignore[arg-type]
    optimizer = make_optimizer(optim, net.parameters(), optim.lr, fused=False)
    assert make_scheduler(optim, optimizer, 10) is not None  # takes all groups
    before = {key: parameter.detach().clone() for key, parameter in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, parameter in net.named_parameters() if not torch.equal(parameter.detach(), before[key])}
    biases = {"0.bias", "1.weight", "3.bias"}  # batch norm's own bias begins at 0, where nothing decays
    assert moved == {"0.weight", "3.weight"} | (biases if everything else set())


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_adds_the_decay_to_the_gradient_and_adamw_takes_it_off_the_weight(name: str) -> None:
    lr, decay, (beta1, beta2) = 0.1, 0.3, (0.5, 0.9)
    weight, mean, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate((1.0, -4.0), 1):
        if name == "adamw":
            weight -= lr * decay * weight
        else:
            gradient += decay * weight
        mean, square = beta1 * mean + (1 - beta1) * gradient, beta2 * square + (1 - beta2) * gradient**2
        weight -= lr * mean / (1 - beta1**step) / math.sqrt(square / (1 - beta2**step))
    optim = Optim(name=name, lr=lr, weight_decay=decay, betas=[beta1, beta2])  # type: ignore[arg-type]
    assert stepped(optim, [1.0, -4.0]) == pytest.approx(weight, rel=1e-5)
