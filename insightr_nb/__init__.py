"""INSightR-Net (Hesse and Namburete, MICCAI 2022): regression that explains itself by prototypes."""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "RunSettings": "settings",
    "INSightRNet": "model.network",
    "train": "training.trainer",
    "evaluate": "analysis.evaluation",
    "load_run": "analysis.loaded_run",
    "explain": "analysis.explanation",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import insightr_nb` stays fast."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
