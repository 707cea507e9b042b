"""Small networks of the tiny preset in files, and a task around them."""

import pytest

from tests.training.tasks.tiny_files import tiny_strag_options, write_tiny_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Exported codecs, text encoder, features and reader, each after a step of training."""
    return write_tiny_files(tmp_path, monkeypatch)


@pytest.fixture
def tiny_strag(folder):
    return tiny_strag_options(folder)
