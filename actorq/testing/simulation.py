"""Simulations of a whole cluster, each from one seed: `simulate` it, or run many from the shell.

::

    python -m actorq.testing.simulation --seeds 1000 --start 5000

A seed gives a plan: what clients do, and what goes wrong meanwhile. The plan is played in virtual
time, the promises are checked against what happened, and if one is broken the plan is made as short
as it can be while it still breaks one. The same seed is the same history, every time.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence

import trio

from actorq.testing.clock import VirtualClock
from actorq.testing.cluster import Cluster
from actorq.testing.history import History
from actorq.testing.plans import Plan, plan_of, smaller
from actorq.testing.processes import seeded
from actorq.testing.promises import broken

BOUND = 40.0
"""Virtual seconds after the last fault within which everybody must have been answered."""

_LOOK = 0.5
_LAST_WORDS = 20.0  # until a client is given up that fell silent, and all is acknowledged


def play(plan: Plan) -> History:
    """Play a plan; return what happened."""
    with seeded(plan.seed) as random:
        cluster = Cluster(plan.setup, plan.steps, random)
        trio.run(_play, plan, cluster, clock=VirtualClock())
    return cluster.history


async def _play(plan: Plan, cluster: Cluster) -> None:
    async def body() -> None:
        async with trio.open_nursery() as nursery:
            for fault in plan.faults:
                nursery.start_soon(cluster.strike, fault)
            await trio.sleep_until(plan.calm)
            nursery.cancel_scope.cancel()
        cluster.calm()
        await _until(lambda: not cluster.waiting() and not cluster.busy(), BOUND)
        await _until(lambda: not cluster.busy(at_all=True), _LAST_WORDS)
        for role, steps in cluster.waiting().items():
            cluster.history.note("hangs", role=role, steps=steps)
        if tables := cluster.tables():
            cluster.history.note("leak", **tables)

    await cluster.run(body)


async def _until(done: Callable[[], bool], seconds: float) -> None:
    """Look now and then, for so long."""
    for _ in range(int(seconds / _LOOK)):
        if done():
            return
        await trio.sleep(_LOOK)


# --- verdicts ------------------------------------------------------------------------------------


class Failure(AssertionError):
    """A promise was broken."""


def verdict(plan: Plan) -> tuple[list[str], History]:
    """Play a plan; return what it breaks, and what happened."""
    history = play(plan)
    return broken(history, plan.setup, plan.steps, plan.faults), history


def simulate(plan: Plan) -> None:
    """Play a plan.

    Raises:
        Failure: It breaks a promise; with the shortest history that does.
    """
    complaints, _ = verdict(plan)
    if complaints:
        raise Failure(report(shortest(plan)))


def report(plan: Plan) -> str:
    """Return what a plan is, what it breaks, and all that happens."""
    complaints, history = verdict(plan)
    return "\n".join(
        [
            f"seed {plan.seed} breaks {len(complaints)} promises:",
            *(f"  - {said}" for said in complaints),
            f"{plan.setup}, calm={plan.calm}",
            *map(str, plan.steps),
            *map(str, plan.faults),
            history.story(),
        ]
    )


def shortest(plan: Plan, tries: int = 200) -> Plan:
    """Return a plan that fails in the same way, and mostly does not without any of its parts."""
    kind = _kind(verdict(plan)[0][0])
    while True:
        for less in smaller(plan):
            tries -= 1
            if tries < 0:
                return plan
            if any(_kind(said) == kind for said in verdict(less)[0]):
                plan = less
                break
        else:
            return plan


def _kind(complaint: str) -> str:
    """Return what a complaint is about, without names and numbers."""
    return re.sub(r"task \w+ \(\w+\)|[\d.]+|'.*?'", "", complaint)[:40]


def main(arguments: Sequence[str] | None = None) -> int:
    """Play many seeds; print what breaks. Return 1 if anything did."""
    parser = argparse.ArgumentParser(prog="python -m actorq.testing.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument(
        "--keep-going", action="store_true", help="do not stop at the first failure"
    )
    parser.add_argument("--brief", action="store_true", help="do not look for the shortest history")
    given = parser.parse_args(arguments)
    failed: list[int] = []
    began = time.process_time()
    for seed in range(given.start, given.start + given.seeds):
        plan = plan_of(seed)
        try:
            complaints, _ = verdict(plan)
        except Exception as error:  # noqa: BLE001 - that is a finding too
            complaints = ["".join(traceback.format_exception(error))]
        if complaints:
            failed.append(seed)
            _say(f"seed {seed}:", *(f"  - {said}" for said in complaints))
            if not given.keep_going:
                if not given.brief:
                    _say(report(shortest(plan)))
                break
    seconds = time.process_time() - began
    _say(f"{given.seeds} seeds in {seconds:.1f} s of CPU time; failed: {failed or 'none'}")
    return 1 if failed else 0


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
