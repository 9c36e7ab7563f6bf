"""Real processes on one file, killed and stopped at any moment; `actorq.testing.chaos` says how."""

import sys
from pathlib import Path

import pytest

from actorq.testing.chaos import DONE_SECONDS, Chaos, plan_of

ROUNDS = 32
SEED = 5

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nodes are held by their pidfd")


@pytest.mark.bound(180)
async def test_whatever_is_killed_what_was_accepted_ends_once_with_its_own_value(
    tmp_path: Path,
) -> None:
    chaos = Chaos(plan_of(SEED, ROUNDS), tmp_path)
    complaints = await chaos.run()

    again = f"python -m actorq.testing.chaos --rounds {ROUNDS} --seed {SEED}"
    assert complaints == [], again
    assert chaos.kills >= 30
    assert len(chaos.stored) > 300
    assert chaos.seconds <= DONE_SECONDS, again
