"""The errors a user can meet. Each message names the bad value and the way out, in one line."""


class More4DError(Exception):
    """Base of every error that is the input's fault: shown as one line, without a traceback."""


class InputError(More4DError):
    """A file, number or text the user gave cannot be used."""


class ConfigError(More4DError):
    """A configuration has an unknown key, a wrong type or an impossible value."""


class WeightsError(More4DError):
    """Weights are missing, truncated, or do not fit the network they are loaded into."""


class MissingPackageError(More4DError):
    """An optional package is needed; the message holds the line that installs it."""


class DistributedError(More4DError):
    """Of the processes that work together, one is gone, or they cannot go on together."""
