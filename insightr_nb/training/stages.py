"""The three-stage protocol as data (paper, section 2, "Training Algorithm", and section 3, "Implementation")."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from insightr_nb.settings import RunSettings


@dataclass(frozen=True)
class Stage:
    """Some epochs in which the same parts of the network train with the same rates.

    learning_rates: part of the network -> rate; a part that is not listed is frozen.
    halve_every: epochs after which the rates halve (0: constant), counted on from `epochs_before`.
    projects: the prototypes are projected before its first epoch. selectable: its epochs are candidates for the result.
    batchnorm_frozen: BatchNorm's statistics stand still even where the backbone trains.
    """

    name: str
    cycle: int
    epochs: int
    learning_rates: dict[str, float]
    weight_decay: dict[str, float] = field(default_factory=dict)
    halve_every: int = 0
    epochs_before: int = 0
    projects: bool = False
    selectable: bool = False
    batchnorm_frozen: bool = False

    def optimizer(self, network: nn.Module) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
        """Adam with a group for every part that trains, and its schedule."""
        groups = [
            {"params": list(getattr(network, part).parameters()), "lr": rate,
             "weight_decay": self.weight_decay.get(part, 0.0)}
            for part, rate in self.learning_rates.items()
        ]  # fmt: skip
        optimizer = torch.optim.Adam(groups)

        def factor(epoch: int) -> float:
            return 0.5 ** ((self.epochs_before + epoch) // self.halve_every) if self.halve_every else 1.0

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def protocol(settings: RunSettings) -> tuple[Stage, ...]:
    """The stages of a run. `backbone` and `baseline` are one plain regression training; else: the paper's cycles.

    Each stage has an optimiser of its own. Only last-layer epochs are selectable: only there are prototypes patches.
    """
    t = settings.training
    if not settings.explains:
        pretraining = settings.variant == "backbone"
        epochs, rate, halve_every = (
            (t.pretrain_epochs, t.pretrain_lr, t.pretrain_halve_every)
            if pretraining
            else (t.baseline_epochs, t.baseline_lr, t.baseline_halve_every)
        )
        rates = {"backbone": rate, "last_layer": rate}
        return (Stage("regression", 1, epochs, rates, halve_every=halve_every, selectable=True),)

    rates = {"backbone": t.lr_backbone, "block": t.lr_block, "prototype_layer": t.lr_prototypes}
    without_backbone = {part: rate for part, rate in rates.items() if part != "backbone"}
    decay = {"block": t.block_weight_decay}
    stages: list[Stage] = []
    for cycle in range(1, t.cycles + 1):
        warm_up = t.warm_up_epochs if cycle == 1 else 0
        before = (cycle - 1) * t.joint_epochs - t.warm_up_epochs  # joint epochs so far, for the halving
        stages += [
            Stage("warm-up", cycle, warm_up, without_backbone),
            Stage("joint", cycle, t.joint_epochs - warm_up, rates, decay, t.joint_halve_every, max(before, 0),
                  batchnorm_frozen=t.batchnorm_frozen),
            Stage("last layer", cycle, t.last_layer_epochs, {"last_layer": t.lr_last_layer}, projects=True,
                  selectable=True),
        ]  # fmt: skip
    return tuple(stage for stage in stages if stage.epochs)


@contextlib.contextmanager
def training_only(network: nn.Module, parts: tuple[str, ...], batchnorm_frozen: bool = False) -> Iterator[None]:
    """Within it only these parts have gradients and are in train mode; all others are in `eval()`, so BatchNorm stands.

    With `batchnorm_frozen` BatchNorm is in `eval()` everywhere; its weights and biases still train with their part.
    Afterwards the whole network is in `eval()` and every parameter requires a gradient again.
    """
    network.eval()
    for name, part in network.named_children():
        part.requires_grad_(name in parts)
        part.train(name in parts)
    if batchnorm_frozen:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    try:
        yield
    finally:
        network.eval()
        network.requires_grad_(True)
