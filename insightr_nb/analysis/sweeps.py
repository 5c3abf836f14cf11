"""Sweeps over one property of INSightR-Net: their runs, as overrides with tags, and those already finished."""

from collections.abc import Iterable

from insightr_nb import runs
from insightr_nb.checked import suggest
from insightr_nb.errors import SettingsError
from insightr_nb.parameters import TableSettings
from insightr_nb.presets import VARIANTS
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings

# Name of the sweep -> the settings it changes; the first is the x-axis of its curve.
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
TITLES = {  # of the values of a sweep, where its name does not say it all
    "cluster": "weight of the cluster loss",
    "psd": "weight of the PSD loss",
    "delta": "range of labels of the cluster loss",
    "k": "k of the cluster loss",
    "depth": "latent channels",
}
_STRIDES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}  # of the output of each ResNet layer


def localities(settings: TableSettings) -> list[str]:
    """Backbone layers from which a block can produce 9 x 9 cells for images of the preset's size."""
    size = settings.run("insightr", 0).data.size
    return [layer for layer, stride in _STRIDES.items() if size in (8 * stride * block for block in (1, 2, 4, 8))]


def sweep_overrides(settings: TableSettings, parameter: str, value: float | str) -> dict[str, float | str | int]:
    """Overrides for one value of a sweep.

    For `locality`, the value is the last layer of the backbone; kernel and stride of the block keep the grid at 9 x 9.

    Args:
        settings: Preset and data set.
        parameter: Name of the sweep.
        value: A number, or the layer's name for `locality`.

    Returns:
        Values by setting.

    Raises:
        SettingsError: For an unknown parameter or value, or if the images are too small for 9 x 9 cells.
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
    """Runs of a sweep over one property of INSightR-Net, tagged `<parameter>-<value>`.

    The untagged runs of the tables are used at the preset's own value, and at that of a variant, so that nothing is
    trained twice.

    Args:
        settings: Preset and data set.
        parameter: Name of the sweep.
        values: Values of the parameter.
        folds: Folds of each value.

    Returns:
        Settings of the runs.
    """
    found = []
    for value in values:
        overrides = sweep_overrides(settings, parameter, value)
        tag = f"{parameter}-{value if parameter == 'locality' else format(float(value), 'g')}"
        for fold in folds:
            run = settings.run("insightr", fold, overrides=overrides, tag=tag)
            same = next((v for v in ("insightr", *_variants_of(parameter)) if run.changes() == VARIANTS[v]), None)
            found.append(settings.run(same, fold) if same else run)
    return found


def _variants_of(parameter: str) -> list[str]:
    """Variants that change the setting of a sweep and nothing else, e.g. "no_cluster" of the sweep over cluster."""
    return [v for v, changes in VARIANTS.items() if list(changes) == list(SWEEPS[parameter])]


def finished_sweeps(settings: TableSettings) -> list[tuple[str, RunSettings]]:
    """Finished sweep runs as (parameter, run): tagged `<parameter>-<value>`, without overrides outside the sweep.

    Edited runs are left out. Includes the finished untagged runs of each of their folds: the point at the preset's own
    value, and variants that change nothing but the setting of the sweep.
    """
    folder = runs.run_directory(settings.run("insightr", 0)).parent
    found = []
    for path in sorted(folder.glob("fold*-*-*")):
        fold, _, tag = path.name.removeprefix("fold").partition("-")
        parameter = tag.partition("-")[0]
        if parameter in SWEEPS and Run(path).state == "finished" and not Run(path).edited:
            overrides = Run(path).manifest["overrides"]
            if SWEEPS[parameter][0] in overrides and set(overrides) <= set(SWEEPS[parameter]):
                found.append((parameter, settings.run("insightr", int(fold), overrides=overrides, tag=tag)))
    for parameter, fold in sorted({(parameter, run.fold) for parameter, run in found}):
        for variant in ("insightr", *_variants_of(parameter)):
            plain = settings.run(variant, fold)
            if Run(runs.run_directory(plain)).state == "finished":
                found.append((parameter, plain))
    return found
