"""Every case: exact bytes or exactly one clear error, no late write, no hang, no leak, and others are served meanwhile."""

from __future__ import annotations

import pytest
from cases import Case
from faults import needs
from known import KNOWN
from processes import Fleet
from stage import Stage


def test_fault(case: Case, fleet: Fleet, request: pytest.FixtureRequest) -> None:
    if why := needs(case.transport, case.fault):
        pytest.skip(why)
    for matches, reason in KNOWN:
        if matches(case):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=False))
    stage = Stage(case, fleet)
    try:
        stage.play()
    except BaseException:
        stage.give_up()
        fleet.new_bystander()
        raise
