"""Every case: exact bytes or exactly one clear error, no late write, no hang, no leak, and others are served meanwhile."""

from __future__ import annotations

import pytest
from cases import Case
from faults import needs
from processes import Fleet
from stage import Stage


def test_fault(case: Case, fleet: Fleet) -> None:
    if why := needs(case.transport, case.fault):
        pytest.skip(why)
    stage = Stage(case, fleet)
    try:
        stage.play()
    except BaseException:
        stage.give_up()
        fleet.new_bystander()
        raise
