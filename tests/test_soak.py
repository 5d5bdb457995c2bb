"""The short form of the soak: many turns at once, with faults and cancellations at random moments."""

from __future__ import annotations

import asyncio

import pytest
from soak import Sample, closed, grown, soak
from soak_server import SoakServer


@pytest.mark.parametrize("seed", [1, 2])
def test_many_turns_with_faults_and_stops_leak_nothing_and_are_not_mixed_up(seed: int) -> None:
    with SoakServer(seed) as server:
        report = asyncio.run(soak(server, turns=150, agents=10, seed=seed))
        assert report.problems == []
        assert report.statuses.total() == 150
        assert set(report.statuses) == {"ok", "error", "cancelled"}
        assert set(report.tools) == {"ok", "error", "timeout", "cancelled"}
        assert closed(server), f"{server.open_connections} connections are left"


def test_growth_is_that_of_the_last_fifth_over_the_second() -> None:
    sizes = [900, 900, 100, 100, 500, 500, 500, 500, 110, 110]
    assert grown([Sample(float(at), size, 1, 0, 1) for at, size in enumerate(sizes)]) == pytest.approx(1.1)
