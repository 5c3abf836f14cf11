"""The three-stage protocol as data (paper, section 2, "Training Algorithm", and section 3, "Implementation")."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import nn

from insightr_nb.settings import RunSettings


@dataclass(frozen=True)
class Stage:
    """Consecutive epochs that train the same parts of the network at the same learning rates.

    Attributes:
        name: Name of the stage.
        cycle: Training cycle, from 1.
        epochs: Number of epochs.
        learning_rates: Learning rate of each trained part; parts that are not listed are frozen.
        weight_decay: Weight decay of each part, 0 by default.
        halve_every: Epochs between halvings of the learning rates; 0 keeps them constant.
        epochs_before: Earlier epochs that count towards the halvings.
        projects: Whether the prototypes are projected before the first epoch.
        selectable: Whether the epochs are candidates for the final model.
        batchnorm_frozen: Whether BatchNorm statistics stay fixed even where the backbone trains.
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

    @property
    def only_last_layer(self) -> bool:
        """Whether the stage trains the last layer and nothing else."""
        return self.learning_rates.keys() == {"last_layer"}

    def optimizer(self, network: nn.Module) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
        """Build Adam with one parameter group per trained part, and its learning rate schedule."""
        groups = [
            {
                "params": list(getattr(network, part).parameters()),
                "lr": rate,
                "weight_decay": self.weight_decay.get(part, 0.0),
            }
            for part, rate in self.learning_rates.items()
        ]
        optimizer = torch.optim.Adam(groups)

        def factor(epoch: int) -> float:
            return 0.5 ** ((self.epochs_before + epoch) // self.halve_every) if self.halve_every else 1.0

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def protocol(settings: RunSettings) -> tuple[Stage, ...]:
    """Stages of a run: one plain regression for `backbone` and `baseline`, otherwise the paper's cycles.

    The paper's three stages of a cycle are joint training (here "warm-up" with a frozen backbone, then "joint"), the
    projection (`projects`, done at the start of the stage that follows it) and "last layer".

    Each stage has its own optimizer; with the setting `persistent_optimizers` it continues the moments and step counts
    of Adam in the previous cycle's stage of the same name. Only last-layer epochs are selectable, because only there
    are the prototypes latent patches.
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
        before = (cycle - 1) * t.joint_epochs - t.warm_up_epochs  # joint epochs so far, for the halvings
        stages += [
            Stage("warm-up", cycle, warm_up, without_backbone),
            Stage(
                "joint",
                cycle,
                t.joint_epochs - warm_up,
                rates,
                decay,
                t.joint_halve_every,
                max(before, 0),
                batchnorm_frozen=t.batchnorm_frozen,
            ),
            Stage(
                "last layer",
                cycle,
                t.last_layer_epochs,
                {"last_layer": t.lr_last_layer},
                projects=True,
                selectable=True,
            ),
        ]
    return tuple(stage for stage in stages if stage.epochs)


@contextlib.contextmanager
def training_only(network: nn.Module, parts: tuple[str, ...], batchnorm_frozen: bool = False) -> Iterator[None]:
    """Train only the given parts; all others are frozen and in `eval()`, so their BatchNorm statistics stay fixed.

    On exit the whole network is in `eval()` and every parameter requires a gradient.

    Args:
        network: The network.
        parts: Names of the child modules to train.
        batchnorm_frozen: Put BatchNorm in `eval()` everywhere; its weights and biases still train with their part.
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


def as_table(steps: Iterable[RunSettings]) -> pd.DataFrame:
    """Stages of several runs as a table: one row per stage, with the learning rate of each part or "frozen"."""
    rows = [
        {
            "run": step.variant,
            "stage": stage.name,
            "cycle": stage.cycle,
            "epochs": stage.epochs,
            "projection first": "yes" if stage.projects else "no",
            "selectable": "yes" if stage.selectable else "no",
            **{f"rate of {part.replace('_', ' ')}": f"{rate:g}" for part, rate in stage.learning_rates.items()},
        }
        for step in steps
        for stage in protocol(step)
    ]
    return pd.DataFrame(rows).fillna("frozen").set_index(["run", "cycle", "stage"])
