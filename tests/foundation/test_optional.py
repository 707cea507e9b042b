"""Laws of optional packages."""

import math

import pytest

from more4d.foundation.errors import MissingPackageError
from more4d.foundation.optional import require


def test_an_installed_module_is_returned():
    assert require("math", extra="none") is math


def test_a_missing_package_names_its_install_line():
    with pytest.raises(MissingPackageError, match=r"pip install .*\[splats\]"):
        require("no_such_package_at_all", extra="splats")
