"""The training loop: run the stages of the protocol and keep the best state; resumable after any epoch."""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import update_bn
from tqdm.auto import tqdm

from insightr_nb import files, runs
from insightr_nb.data.folds import FoldData, fold_data
from insightr_nb.data.loading import Epoch, InOrder, Subset, batches, rows_of_batches
from insightr_nb.errors import RunError
from insightr_nb.model.network import Output
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import checkpoint, hardware
from insightr_nb.training.estimate import Pace
from insightr_nb.training.projection import Projection, project, write_prototypes
from insightr_nb.training.stages import Stage, protocol, training_only
from insightr_nb.training.step import forward

MODEL = "model.safetensors"
_STEPS_UNREAD = 25  # steps between two copies of the losses from the device: a card would wait at each
_AT_ONCE = {"cuda": 2}  # batches to compute at once without gradients, in less memory than a step; a CPU is slower so


def train(settings: RunSettings, pace: Pace | None = None) -> Run:
    """Train one (variant, fold), resume an interrupted training, or return a completed one.

    Writes manifest.json, history.csv, last.ckpt (removed on completion) and model.safetensors; for a network with
    prototypes also prototypes.csv (`evaluate` adds the boxes), prototype_maps.npy and prototypes_before_projection.npy.
    Test images are not used; see `analysis.evaluation.evaluate`.

    pace: estimate to compare epochs with; the first epoch that is much slower is reported, with a remedy.

    Raises RunError if the folder holds a run with other settings, the backbone is missing, or a loss is not finite.
    """
    run = Run(runs.run_directory(settings))
    device = hardware.choose_device(settings.device)
    data = fold_data(settings)
    fingerprints = {"store": data.store.fingerprint, "split": data.split.fingerprint}
    with files.exclusive_lock(run.path):
        resumed = not settings.overwrite and (run / "manifest.json").exists()
        if resumed:
            runs.check_same(run, settings.as_dict(), fingerprints)
            if run.is_trained:
                return run.require_whole(MODEL)
        data.store.check()
        with hardware.memory_errors(settings):
            trainer = _Trainer(settings, run, data, device, pace)
        if not resumed:  # delete only after everything that can fail early
            shutil.rmtree(run.path, ignore_errors=True)
        run.start(settings, fingerprints, hardware.describe(device), resumed)
        with run.working(), hardware.memory_errors(settings):
            trainer.train()
    return run


class _Trainer:
    """State of one training; `_save` writes everything needed to resume it."""

    def __init__(
        self, settings: RunSettings, run: Run, data: FoldData, device: torch.device, pace: Pace | None
    ) -> None:
        self.settings, self.run, self.data, self.device, self.pace = settings, run, data, device, pace
        self.stages = protocol(settings)
        hardware.make_deterministic(device)
        torch.manual_seed(settings.seed)
        self.network = checkpoint.build_network(settings, self._backbone_weights())
        self.network.to(device, memory_format=torch.channels_last).eval()
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None  # selected epoch: validation loss, network state, projection
        self.projection: dict[str, Any] | None = None  # of the current cycle
        self.projected = 0  # stages whose projection is done
        self.optimizer_state: dict[str, Any] | None = None
        self.moments: dict[str, Any] = {}  # Adam's state by name of the stage, with persistent_optimizers
        self.validation_table: tuple[torch.Tensor, torch.Tensor] | None = None  # of a last-layer stage

    def _backbone_weights(self) -> str | None:
        backbone = self.settings.backbone_run()
        if backbone is None:
            return None
        run = Run(runs.run_directory(backbone))
        if not run.is_trained:
            same = ", with the seed and overrides of this run" if backbone.tag else ""
            raise RunError(
                f"the backbone {files.display_path(run.path)} is missing or not trained. Train it with: "
                f"{run.command()}{same}"
            )
        return str(run.require_whole(MODEL) / MODEL)

    def train(self) -> None:
        if (self.run / "last.ckpt").exists():
            self._restore(checkpoint.load_state(self.run / "last.ckpt"))
            self._write_history()  # one epoch behind if killed between the two writes
            print(f"resumed after epoch {len(self.history)}")
        done = len(self.history)  # epochs
        for index, stage in enumerate(self.stages):
            skip = min(done, stage.epochs)
            done -= skip
            if skip < stage.epochs:
                self._run_stage(index, stage, first_epoch=skip)
        self._finish()

    def _run_stage(self, index: int, stage: Stage, first_epoch: int) -> None:
        if stage.projects and self.projected <= index:
            self._project(stage)
            self.projected = index + 1
            self._save()
        self.validation_table = None
        optimizer, schedule = stage.optimizer(self.network)
        if first_epoch:
            optimizer.load_state_dict(self.optimizer_state["optimizer"])
            schedule.load_state_dict(self.optimizer_state["schedule"])
        elif stage.name in self.moments:  # of the previous cycle; the learning rates are those of this stage
            optimizer.load_state_dict(optimizer.state_dict() | {"state": self.moments[stage.name]})
        for _ in range(first_epoch, stage.epochs):
            begin = time.monotonic()
            rates = dict(zip(stage.learning_rates, schedule.get_last_lr(), strict=True))
            row = {"epoch": len(self.history) + 1, "cycle": stage.cycle, "stage": stage.name}
            row |= {f"lr_{part}": rates.get(part, 0.0) for part, _ in self.network.named_children()}
            row |= self._epoch(stage, optimizer)
            schedule.step()
            if "backbone" in stage.learning_rates and not stage.batchnorm_frozen:
                self._estimate_batchnorm()
            validation = self._validate(stage)
            _check_finite("validation loss", validation["validation_total"], validation, stage, row["epoch"])
            row |= validation
            row["seconds"] = round(time.monotonic() - begin, 2)
            self.history.append(row)
            self._select(stage, row)
            self.optimizer_state = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            if self.settings.training.persistent_optimizers:
                self.moments[stage.name] = self.optimizer_state["optimizer"]["state"]
            self._save()
            self._write_history()
            total = sum(s.epochs for s in self.stages)
            print(
                f"epoch {row['epoch']:3d}/{total} {stage.name:<10} cycle {stage.cycle}  "
                f"loss {row['train_total']:.3f}  MAE training {row['train_mae']:.3f}  "
                f"validation {row['validation_mae']:.3f}  {row['seconds']:.0f} s",
                flush=True,
            )
            if self.pace and (note := self.pace.slower(row["seconds"], stage, self.settings, self.data)):
                print(note, flush=True)
                self.pace = None  # report once

    def _epoch(self, stage: Stage, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Train for one epoch. Returns the mean losses, and the MAE in the user's units."""
        settings, epoch = self.settings, len(self.history)
        torch.manual_seed(settings.seed * 100_003 + epoch)  # for dropout in other backbones
        on_device = self.device.type != "cpu"
        dataset = Epoch(self.data.training, settings.training, settings.seed, epoch, on_device)
        sums: dict[str, float] = {}
        unread: list[tuple[int, dict[str, torch.Tensor]]] = []  # number of images and losses of the latest steps

        def read() -> None:
            """Copy these losses from the device, which waits for it, and add them up."""
            numbers = torch.stack([value for _, terms in unread for value in terms.values()]).tolist()
            for i, (images, terms) in enumerate(unread):
                values = dict(zip(terms, numbers[i * len(terms) : (i + 1) * len(terms)], strict=True))
                _check_finite("loss", values["total"], values, stage, epoch + 1)
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value * images
            unread.clear()

        with training_only(self.network, tuple(stage.learning_rates), stage.batchnorm_frozen):
            for output, targets in self._outputs(dataset, stage, f"epoch {epoch + 1}"):
                terms = self.network.loss(output, targets, settings.losses)
                optimizer.zero_grad(set_to_none=True)
                terms["total"].backward()
                optimizer.step()
                mae = (self.network.prediction(output) - targets).abs().mean() * self.data.store.scale.unit
                unread.append((len(targets), {name: term.detach() for name, term in (terms | {"mae": mae}).items()}))
                if len(unread) == _STEPS_UNREAD:
                    read()
            if unread:
                read()
        return {f"train_{name}": value / len(dataset) for name, value in sums.items()}

    def _outputs(
        self, dataset: Epoch | InOrder, stage: Stage, what: str | None = None
    ) -> Iterator[tuple[torch.Tensor | Output, torch.Tensor]]:
        """Yield the network's output for each batch of a data set, and its targets (B,).

        In a last-layer stage, distances do not depend on the steps. They are computed first, on a card in larger
        batches, and the batches then go through similarity and last layer only: the same optimisation up to rounding.

        Args:
            dataset: Images of a training epoch, or the validation images, whose distances are kept for the stage.
            stage: The stage.
            what: Title of a progress bar; None for none.
        """
        size, replayed = self.settings.training.batch_size, stage.only_last_layer and self.network.explains
        table = self.validation_table if replayed and isinstance(dataset, InOrder) else None
        if table is None:
            at_once = size * _AT_ONCE.get(self.device.type, 1) if replayed else size
            loader = batches(dataset, at_once, self.device)
            steps = len(rows_of_batches(len(dataset), at_once))
            if what is not None:
                loader = tqdm(loader, total=steps, desc=what, leave=False, mininterval=1)
            if not replayed:
                yield from ((forward(self.network, images, self.settings), targets) for images, targets in loader)
                return
            with torch.no_grad():
                parts = [(forward(self.network, images, self.settings).min_distances, t) for images, t in loader]
            table = tuple(map(torch.cat, zip(*parts, strict=True)))  # (N, m), (N,)
            if isinstance(dataset, InOrder):
                self.validation_table = table
        for rows in rows_of_batches(len(dataset), size):
            distances, targets = (column[rows.start : rows.stop] for column in table)
            yield self.network.from_distances(distances), targets

    @torch.no_grad()
    def _estimate_batchnorm(self) -> None:
        """Re-estimate BatchNorm's running statistics, which are noisy in a short training (setting `batchnorm_images`).

        Uses evenly spaced, un-augmented training images. Called only where the backbone trains, so that a projected
        prototype stays equal to its patch.
        """
        subset, count = self.data.training, self.settings.training.batchnorm_images
        if not count:
            return
        rows = subset.rows[np.linspace(0, len(subset) - 1, min(count, len(subset))).round().astype(int)]
        sample = InOrder(Subset(subset.images, rows, np.zeros(len(rows), np.float32), rows))
        inputs = (
            self.network.inputs(images) for images, _ in batches(sample, self.settings.training.batch_size, self.device)
        )
        with hardware.autocast(self.device, self.settings.training.precision):
            update_bn(inputs, self.network.backbone)
        self.network.eval()

    @torch.no_grad()
    def _validate(self, stage: Stage) -> dict[str, float]:
        """Validation MAE in the user's units, and MSE averaged over grades to balance them without oversampling."""
        subset, unit = self.data.validation, self.data.store.scale.unit
        predictions, totals = [], []
        for output, targets in self._outputs(InOrder(subset), stage):
            predictions.append(self.network.prediction(output).float())
            total = self.network.loss(output, targets, self.settings.losses)["total"]
            totals.append(total.double() * len(targets))
        total = torch.stack(totals).sum().item()
        error = torch.cat(predictions).cpu().double().numpy() - subset.targets
        by_grade = [np.square(error[subset.strata == grade]).mean() for grade in np.unique(subset.strata)]
        return {
            "validation_mse": float(np.mean(by_grade)),
            "validation_total": total / len(subset),
            "validation_mae": float(np.abs(error).mean() * unit),
        }

    def _project(self, stage: Stage) -> None:
        result = project(self.network, self.data.training.once())
        self.projection = {name: torch.from_numpy(value) for name, value in asdict(result).items()}
        sources = {(p, r, c) for p, r, c in zip(result.positions, result.rows, result.columns, strict=True)}
        images = len(set(result.positions))
        print(
            f"projection, cycle {stage.cycle}: {len(sources)} distinct patches from {images} images, squared "
            f"distance moved: median {np.median(result.distances):.3f}, maximum {result.distances.max():.3f}"
        )

    def _select(self, stage: Stage, row: dict[str, Any]) -> None:
        loss = row[f"validation_{self.settings.training.selection}"]
        if stage.selectable and (self.best is None or loss < self.best["loss"]):
            state = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
            self.best = {"loss": loss, "epoch": row["epoch"], "network": state, "projection": self.projection}

    def _save(self) -> None:
        checkpoint.save_state(
            self.run / "last.ckpt",
            {
                "network": self.network.state_dict(),
                "best": self.best,
                "projection": self.projection,
                "projected": self.projected,
                "optimizer_state": self.optimizer_state,
                "moments": self.moments,
                "history": self.history,
            },
        )

    def _write_history(self) -> None:
        files.write_csv(self.run / "history.csv", self.history)

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        for name in ("best", "projection", "projected", "optimizer_state"):
            setattr(self, name, state[name])
        self.moments = state.get("moments", {})  # older versions had no persistent optimizers
        self.history = [{runs.current_column(name): value for name, value in row.items()} for row in state["history"]]

    def _finish(self) -> None:
        """Write the selected model and the sources of its prototypes."""
        if self.best is None:
            raise RunError("no epoch was selected: all validation losses are NaN; try a lower learning rate")
        self.network.load_state_dict(self.best["network"])
        if projection := self.best["projection"]:
            arrays = {name: tensor.numpy() for name, tensor in projection.items()}
            write_prototypes(self.run, Projection(**arrays), self.network, self.data)
        self.run.update(selected_epoch=self.best["epoch"], validation_loss=self.best["loss"])
        checkpoint.save_model(self.run / MODEL, self.network, self.settings.as_dict())
        self.run.record()
        (self.run / "last.ckpt").unlink(missing_ok=True)


def _check_finite(name: str, total: float, terms: dict[str, float], stage: Stage, epoch: int) -> None:
    """Raise RunError that lists the terms of a loss if their total is not finite."""
    if not math.isfinite(total):
        listed = ", ".join(f"{k} = {v:g}" for k, v in terms.items())
        raise RunError(
            f"the {name} is not finite in epoch {epoch} ({stage.name}, cycle {stage.cycle}): {listed}. The state "
            "before this epoch is kept. Try a lower learning rate or training.precision = 'float32'"
        )
