"""The code of the method teaches: it has comments, and they are not commented-out code (ruff's ERA)."""

import io
import tokenize

import pytest

from tests.architecture.source import python_files

TAUGHT = ("networks", "pipelines", "diffusion", "raster", "geometry")
LEAST_SHARE = 0.05
PRAGMAS = ("# noqa", "# fmt", "# type:", "# pyright")


def comment_lines(text):
    """How many lines hold a comment for people."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len(
        {
            token.start[0]
            for token in tokens
            if token.type == tokenize.COMMENT and not token.string.startswith(PRAGMAS)
        }
    )


@pytest.mark.parametrize("package", TAUGHT)
def test_a_package_of_the_method_has_comments(package):
    texts = [path.read_text() for path in python_files(f"more4d/{package}")]
    lines = sum(len(text.splitlines()) for text in texts)
    comments = sum(map(comment_lines, texts))
    assert comments >= LEAST_SHARE * lines, f"{comments} of {lines} lines of {package} have a comment"


def test_a_pragma_is_no_comment():
    assert comment_lines("x = 1  # noqa: E501\n# Eq. 3\ny = '# text'\n") == 1
