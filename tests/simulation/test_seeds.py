"""Whole clusters from seeds: what clients do and what goes wrong is drawn, the promises are not.

`make simulate` plays thousands. A seed that fails prints the shortest history that does; keep its
plan below, since seeds stand for other plans when the drawing changes.
"""

import hashlib
import os
import subprocess
import sys

import pytest

from actorq.testing.cluster import Fault
from actorq.testing.nodes import Setup
from actorq.testing.plans import Plan, plan_of
from actorq.testing.simulation import play, report, simulate
from actorq.testing.workload import Job, Step

SEEDS = 80
TOGETHER = 20

ONCE = {"at_most_once": True}
PAST = {
    "what workers say while the queue actor starts again is lost, so no slot is ever free": (
        Plan(
            24,
            Setup(clients=2, slots=4, lease=6.0),
            (
                Step(2.426, 0, "call", (Job("t15", "linger", 3.0),)),
                Step(4.4, 0, "nursery", (Job("t6", seconds=0.01),)),
            ),
            (Fault(0.146, "crash actor", applied=True),),
            8.0,
        )
    ),
    "a call that is cancelled before its submit was answered returns while its task runs": (
        Plan(
            29,
            Setup(clients=1, slots=2, lease=6.0, parent=False),
            (Step(0.6, 0, "call", (Job("t12"), Job("t13", "flaky", 0.01, 4)), 0.01),),
            (),
            6.0,
        )
    ),
    "a call that is cancelled when its result is gone already raises TaskNotFound": Plan(
        40_007,
        Setup(clients=2, slots=1, lease=6.0),
        (Step(2.8, 1, "call", (Job("t10", options={"result_ttl": 0.0}),), 0.008),),
        (),
        4.0,
    ),
    "a grant that is being written goes to its worker's next connection, which is granted anew": (
        Plan(
            2_036,
            Setup(clients=1, slots=4, store="disk"),
            (Step(7.725, 0, "nursery", (Job("t8", seconds=3.0, options=ONCE),), 0.5),),
            (Fault(3.323, "stall", "owner", 5.5), Fault(8.561, "disk hangs", "owner", 3.0)),
            12.0,
        )
    ),
    "a submit fails that comes while an owner leaves, though there is another one soon": Plan(
        2_057,
        Setup(clients=1, slots=4, parent=False, store="disk"),
        (Step(6.838, 0, "subscribe", (Job("t5", "give up", 0.01, size=100_000),)),),
        (Fault(4.101, "disk slow", "owner", 5.5), Fault(6.83, "drain", "owner", 3.0)),
        25.0,
    ),
    "a former owner keeps what it has said for those who are with the next one": Plan(
        1_029,
        Setup(clients=1, slots=4, lease=6.0, store="disk", standby=True),
        (Step(0.402, 0, "nursery", (Job("t1", "give up", 0.3, options={"delay": 2.0}),), 0.5),),
        (Fault(0.512, "stop in commit", "owner", 16.0, applied=True),),
        12.0,
    ),
    "nobody looks at a limit's window that was loaded, as long as anybody talks": Plan(
        1,
        Setup(clients=1, parent=False, store="disk", standby=True, locks=False),
        (
            Step(
                2.232,
                0,
                "submit",
                (
                    Job("t4", "flaky", times=1, options={"limit": "slow", "retry": 3}),
                    Job("t7", seconds=5.0),
                ),
            ),
        ),
        (Fault(3.236, "restart queue", "owner", 3.0, told=False, applied=True),),
        6.0,
    ),
}


@pytest.mark.bound(120)
@pytest.mark.parametrize("start", range(0, SEEDS, TOGETHER))
def test_no_seed_breaks_a_promise(start: int) -> None:
    for seed in range(start, start + TOGETHER):
        simulate(plan_of(seed))


@pytest.mark.parametrize("plan", [pytest.param(plan, id=said) for said, plan in PAST.items()])
def test_what_once_failed_does_not(plan: Plan) -> None:
    simulate(plan)


def test_a_seed_is_one_history() -> None:
    for seed in range(2):
        assert play(plan_of(seed)).story() == play(plan_of(seed)).story()


def test_a_seed_is_one_history_in_every_process() -> None:
    program = (
        "from actorq.testing.plans import plan_of; from actorq.testing.simulation import play;"
        "import hashlib;"
        "print(hashlib.sha256(play(plan_of(5)).story().encode()).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "77"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    assert told.strip() == hashlib.sha256(play(plan_of(5)).story().encode()).hexdigest()


def test_seeds_are_different_histories() -> None:
    assert len({play(plan_of(seed)).story() for seed in range(3)}) == 3


def test_a_report_says_how_to_see_it_again() -> None:
    plan = PAST[
        "a call that is cancelled before its submit was answered returns while its task runs"
    ]

    assert "seed 29" in report(plan)
