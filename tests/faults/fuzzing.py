"""What every fuzz test shares: generated cases that are counted, a bound on the time of each, and what a refusal must
say."""

import functools
import inspect
import signal
from collections.abc import Callable

import hypothesis
from hypothesis import HealthCheck
from hypothesis import strategies as st

DECLARED: dict[str, int] = {}
"""Cases that each fuzz test promises to generate; the test itself fails if it ran fewer."""

_SECONDS = 60
"""After so long a single case counts as a hang. Far above what any takes, so that a busy machine changes no verdict."""


class Hang(BaseException):
    """A case did not come to an end. No Exception: nothing in the library may swallow it."""


def _hangs(*_: object) -> None:
    raise Hang(f"no end after {_SECONDS} s")


def fuzz(cases: int, **strategies: st.SearchStrategy) -> Callable[[Callable], Callable]:
    """A test of `cases` generated cases, the same at every run; its other arguments are fixtures."""

    def decorate(test: Callable) -> Callable:
        name = f"{test.__module__}::{test.__name__}"
        DECLARED[name] = cases
        counted = 0

        @functools.wraps(test)
        def one(*args, **kwargs):
            nonlocal counted
            counted += 1
            before = signal.signal(signal.SIGALRM, _hangs)
            signal.setitimer(signal.ITIMER_REAL, _SECONDS)
            try:
                test(*args, **kwargs)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

        checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
        run = hypothesis.settings(
            max_examples=cases, derandomize=True, database=None, deadline=None, suppress_health_check=checks
        )(hypothesis.given(**strategies)(one))

        @functools.wraps(run)
        def whole(*args, **kwargs):
            nonlocal counted
            counted = 0
            run(*args, **kwargs)
            assert counted >= cases, f"{name} ran {counted} of {cases} cases: its strategy has no more"

        whole.__signature__ = inspect.signature(run)
        return whole

    return decorate


def accepted(call: Callable[[], object], *named: object, errors: type | tuple = ValueError) -> object:
    """What `call` returns, or None where it refuses as documented: one paragraph that holds one of `named`, if any is
    given."""
    try:
        return call()
    except errors as error:
        text = str(error)
        assert text.strip(), "a refusal without a word"
        assert "\n\n" not in text, text
        assert len(text) < 5000, f"{len(text)} characters: {text[:200]}"
        assert not named or any(str(word) in text or repr(word) in text for word in named), (text, named)
        return None


ODD_INTEGERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([50, 2**16, 2**16 + 1, 2**20, 2**20 + 1, 10**6, 10**9, 2**63, -(2**63), 10**30]),
    st.integers(),
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    ODD_INTEGERS,
    st.floats(),
    st.text(max_size=12),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
"""Values as they come out of a broken file or a slip of the hand."""
