from collections import Counter

import attrs

from actorq.testing.cluster import Fault
from actorq.testing.plans import Plan, plan_of, smaller
from actorq.testing.workload import LIMITS, Job


def test_a_seed_is_one_plan() -> None:
    assert plan_of(7) == plan_of(7)
    assert plan_of(7) != plan_of(8)


def test_plans_have_everything_in_them() -> None:
    plans = [plan_of(seed) for seed in range(300)]

    assert len({fault.kind for plan in plans for fault in plan.faults}) == 19
    assert len({step.verb for plan in plans for step in plan.steps}) == 10
    assert len({job.kind for plan in plans for step in plan.steps for job in step.jobs}) == 7
    assert any(not plan.faults for plan in plans)
    jobs = [job for plan in plans for step in plan.steps for job in step.jobs]
    assert {job.options["limit"] for job in jobs if "limit" in job.options} == LIMITS.keys()
    assert any(job.after for job in jobs)
    assert any(job.needs for job in jobs)
    assert {plan.setup.home for plan in plans} == {0, 2}
    assert len({plan.setup.skew for plan in plans}) > 2
    setups = {(plan.setup.store, plan.setup.standby, plan.setup.locks) for plan in plans}
    assert len(setups) == 5, "there is nobody to stand by at a memory store, and no lock"


def test_what_disks_do_is_done_to_disks_only() -> None:
    kinds = {fault.kind for n in range(200) for fault in faults_of(n, "memory")}

    assert len(kinds) == 12
    assert {"disk full", "stop in commit"} <= {
        fault.kind for n in range(200) for fault in faults_of(n, "disk")
    }


def faults_of(seed: int, store: str) -> tuple[Fault, ...]:
    plan = plan_of(seed)
    return plan.faults if plan.setup.store == store else ()


def jobs_of(plan: Plan) -> list[Job]:
    return [job for step in plan.steps for job in step.jobs]


def test_only_tasks_with_the_same_key_have_the_same_name() -> None:
    twins = 0
    for seed in range(200):
        jobs = jobs_of(plan_of(seed))
        for label, count in Counter(job.label for job in jobs).items():
            same = [job for job in jobs if job.label == label]
            assert len({job.options.get("key", number) for number, job in enumerate(same)}) == 1
            assert len({(job.kind, job.seconds, job.times, job.size) for job in same}) == 1
            twins += count > 1

    assert twins


def test_a_task_comes_after_earlier_ones_of_its_step() -> None:
    for seed in range(100):
        for step in plan_of(seed).steps:
            for number, job in enumerate(step.jobs):
                earlier = {
                    other.label for other in step.jobs[:number] if "key" not in other.options
                }
                assert earlier >= {*job.after, *job.needs}


def test_one_client_pauses_the_queue_once() -> None:
    pauses = [sum(step.verb == "pause" for step in plan_of(seed).steps) for seed in range(100)]

    assert set(pauses) == {0, 1}


def test_smaller_plans_lack_one_part() -> None:
    plan = plan_of(3)

    def size(one: object) -> int:
        return len(str(attrs.asdict(one)))  # type: ignore[call-overload]

    found = list(smaller(plan))

    assert found
    assert all(size(less) < size(plan) for less in found)
    assert all(less.seed == plan.seed for less in found)


def test_the_smallest_plan_has_one_step_with_one_task() -> None:
    plan = plan_of(3)

    while (less := next(smaller(plan), None)) is not None:
        plan = less

    assert sum(len(step.jobs) for step in plan.steps) <= 1
    assert plan.faults == ()
