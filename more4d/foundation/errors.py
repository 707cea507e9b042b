"""User-facing errors. Each message names the invalid value and the remedy, in one line."""


class More4DError(Exception):
    """Base class of errors caused by the input: shown as one line, without a traceback."""


class InputError(More4DError):
    """A file, number or text from the user cannot be used."""


class ConfigError(More4DError):
    """A configuration has an unknown key, a wrong type or an impossible value."""


class WeightsError(More4DError):
    """Weights are missing, truncated, or do not fit the network."""


class MissingPackageError(More4DError):
    """An optional package is needed; the message contains the install command."""


class DistributedError(More4DError):
    """A process of a distributed run has ended, or the processes are out of step."""
