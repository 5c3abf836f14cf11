"""Sweeps over one property of INSightR-Net: which runs they are, as overrides with tags, and which are finished."""

from collections.abc import Iterable

from insightr_nb import runs
from insightr_nb.checked import suggest
from insightr_nb.errors import SettingsError
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings

# What a sweep is called -> the settings that it changes; the first of them is the axis of its curve.
SWEEPS = {
    "prototypes": ("model.prototypes",),
    "k": ("losses.k",),
    "delta": ("losses.delta",),
    "cluster": ("losses.cluster",),
    "epsilon": ("model.epsilon",),
    "psd": ("losses.psd",),
    "depth": ("model.latent_channels",),
    "locality": ("model.backbone_until", "model.block_kernel", "model.block_stride", "model.block_padding"),
}
_STRIDES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}  # of ResNet, where its backbone ends


def localities(settings: TableSettings) -> list[str]:
    """Where the backbone can end so that a block makes 9 x 9 cells of images of the preset's size."""
    size = settings.run("insightr", 0).data.size
    return [layer for layer, stride in _STRIDES.items() if size in (8 * stride * block for block in (1, 2, 4, 8))]


def sweep_overrides(settings: TableSettings, parameter: str, value: float | str) -> dict[str, float | str | int]:
    """The overrides at one value of a sweep.

    locality: the backbone ends at this layer, and the block's kernel and stride make the same 9 x 9 cells of it.
    Raises SettingsError for an unknown parameter or value, and where the images are too small for that many cells.
    """
    if parameter not in SWEEPS:
        raise SettingsError(f"sweep over {parameter!r}: {suggest(parameter, SWEEPS)}")
    if parameter != "locality":
        try:
            return {SWEEPS[parameter][0]: float(value)}
        except ValueError:
            raise SettingsError(f"sweep over {parameter}: {value!r} must be a number") from None
    if value not in _STRIDES:
        raise SettingsError(f"sweep over locality: {suggest(value, _STRIDES)}")
    size = settings.run("insightr", 0).data.size
    if value not in localities(settings):
        raise SettingsError(
            f"sweep over locality: images of {size} px have no 9 x 9 cells at {value}; use another layer"
        )
    stride = size // (8 * _STRIDES[value])
    return dict(zip(SWEEPS[parameter], (value, max(2, stride), stride, max(1, stride // 2)), strict=True))


def sweep(
    settings: TableSettings, parameter: str, values: Iterable[float | str], folds: Iterable[int]
) -> list[RunSettings]:
    """The runs of a sweep over one property of INSightR-Net, tagged `<parameter>-<value>`.

    At the preset's own value it is the run of the tables, without a tag: nothing is trained twice.
    """
    found = []
    for value in values:
        overrides = sweep_overrides(settings, parameter, value)
        tag = f"{parameter}-{value if parameter == 'locality' else format(float(value), 'g')}"
        for fold in folds:
            run = settings.run("insightr", fold, overrides=overrides, tag=tag)
            found.append(run if run.changes() else settings.run("insightr", fold))
    return found


def finished_sweeps(settings: TableSettings) -> list[tuple[str, RunSettings]]:
    """(parameter, run) of the finished runs of sweeps: tagged `<parameter>-<value>`, with no other override than its.

    With them the run without a tag of each of their folds, where it is finished: the point at the preset's own value.
    """
    folder = runs.run_directory(settings.run("insightr", 0)).parent
    found = []
    for path in sorted(folder.glob("fold*-*-*")):
        fold, _, tag = path.name.removeprefix("fold").partition("-")
        parameter = tag.partition("-")[0]
        if parameter in SWEEPS and Run(path).state == "finished":
            overrides = Run(path).manifest["overrides"]
            if SWEEPS[parameter][0] in overrides and set(overrides) <= set(SWEEPS[parameter]):
                found.append((parameter, settings.run("insightr", int(fold), overrides=overrides, tag=tag)))
    for parameter, fold in sorted({(parameter, run.fold) for parameter, run in found}):
        plain = settings.run("insightr", fold)
        if Run(runs.run_directory(plain)).state == "finished":
            found.append((parameter, plain))
    return found
