"""Takes a network apart: the head is the last layer, which makes the logits, and the backbone is all that comes before.

A frozen backbone is held still. Its parameters get no gradient, and its layers stay in evaluation mode, so that batch
normalisation doesn't change its running averages and dropout drops nothing.
"""

from collections.abc import Iterator

from torch import nn


def backbone_parameters(network: nn.Module, head: str) -> list[nn.Parameter]:
    return [parameter for name, parameter in network.named_parameters() if not name.startswith(f"{head}.")]


def backbone_modules(network: nn.Module, head: str) -> Iterator[nn.Module]:
    """Yield the modules up to the last one before the head that has parameters. What stands between that one and the
    head, such as dropout, works for the head. A module that holds the head belongs to neither."""
    names = [name for name, _ in network.named_modules()]
    inside = [name for name in names if name != head and not name.startswith(f"{head}.")]
    with_parameters = [name for name in inside if network.get_submodule(name)._parameters]
    end = inside.index(with_parameters[-1]) + 1 if with_parameters else 0
    for name in inside[:end]:
        if name and not head.startswith(f"{name}."):
            yield network.get_submodule(name)


def set_frozen(network: nn.Module, head: str, frozen: bool) -> None:
    for parameter in backbone_parameters(network, head):
        parameter.requires_grad_(not frozen)
    hold_still(network, head, frozen)


def hold_still(network: nn.Module, head: str, still: bool = True) -> None:
    """Put the backbone's layers into evaluation mode, or back into training mode."""
    for module in backbone_modules(network, head):
        module.training = not still
