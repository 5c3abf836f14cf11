"""Exceptions of the package. Each message names the wrong value, its place, and the fix."""


class InsightrError(Exception):
    """Base class of the exceptions of this package."""


class SettingsError(InsightrError, ValueError):
    """A parameter or setting is unknown, of the wrong type or out of range."""


class DataError(InsightrError, ValueError):
    """An image, a table or a prepared store cannot be used."""


class ModelError(InsightrError, ValueError):
    """A backbone or a weights file does not fit the model."""


class RunError(InsightrError, RuntimeError):
    """A run is missing, unfinished or damaged, or cannot continue."""
