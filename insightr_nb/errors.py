"""The package's own errors: each message says what is wrong, where, and what would be right."""


class InsightrError(Exception):
    """Base of every error that the package raises on purpose."""


class SettingsError(InsightrError, ValueError):
    """A parameter or setting that is unknown, of the wrong type or out of range."""


class DataError(InsightrError, ValueError):
    """An image, a table or a prepared store that cannot be used."""


class ModelError(InsightrError, ValueError):
    """A backbone or a weights file that does not fit the model."""


class RunError(InsightrError, RuntimeError):
    """A run that is missing, unfinished, damaged, or cannot go on."""
