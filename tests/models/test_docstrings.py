"""The example in the docstring of load_model runs as it is written."""

import doctest

from nt_failures.models.load import load_model


def test_examples_run():
    """Catches: an example of another model than the one that is loaded."""
    (example,) = doctest.DocTestFinder().find(load_model, "load_model")
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
