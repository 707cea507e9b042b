"""Arguments that are wrong by themselves, whatever the files and the machine are: exit code 2."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from more4d.foundation.errors import ConfigError, InputError


@contextmanager
def usage_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Whatever is refused inside is refused as wrong usage; nothing inside may look at a file."""
    try:
        yield
    except (InputError, ConfigError) as error:
        parser.error(str(error))
