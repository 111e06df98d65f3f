"""The examples in the docstrings of objectives and collators run as they are written."""

import doctest

import pytest

from nt_failures.objectives import OBJECTIVES
from nt_failures.objectives.collators import NextTokenCollator, TeacherlessCollator


@pytest.mark.parametrize("documented", [*OBJECTIVES.values(), NextTokenCollator, TeacherlessCollator])
def test_examples_run(documented):
    """Catches: an example with other tensors than its objective makes, or none."""
    (example,) = doctest.DocTestFinder(recurse=False).find(documented, documented.__name__)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
