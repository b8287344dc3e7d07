"""Tables of predictions, good and damaged: judged with the right numbers or refused in one line. `benchmarks/fuzz.py` is the long form."""

import pytest

from fuzz_tables import case, trial

FOUND = (
    60,
    484,
    546,
    1007,
    1166,
    1198,
    1452,
    1482,
    1516,
    1886,
    3491,
    4611,
    4715,
    8173,
    10600,
)  # each once showed a fault


@pytest.mark.parametrize("start", range(0, 150, 25))
def test_tables_are_judged_or_refused(start):
    done = {number: trial(case(number), render=number == 0) for number in range(start, start + 25)}
    assert {number: found.message for number, found in done.items() if found.outcome == "fault"} == {}
    assert {found.outcome for found in done.values()} == {"judged", "refused"}
    assert sum(found.compared for found in done.values()) > 10


@pytest.mark.parametrize("number", FOUND)
def test_what_was_mended_stays_so(number):
    found = trial(case(number))
    assert found.outcome in ("judged", "refused"), found.message


def test_a_number_makes_one_file():
    assert case(7) == case(7)
    assert case(7) != case(8)
