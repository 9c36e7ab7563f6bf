import attrs

from actorq.testing.cluster import Fault
from actorq.testing.plans import plan_of, smaller


def test_a_seed_is_one_plan() -> None:
    assert plan_of(7) == plan_of(7)
    assert plan_of(7) != plan_of(8)


def test_plans_have_everything_in_them() -> None:
    plans = [plan_of(seed) for seed in range(300)]

    assert len({fault.kind for plan in plans for fault in plan.faults}) == 17
    assert len({step.verb for plan in plans for step in plan.steps}) == 8
    assert len({job.kind for plan in plans for step in plan.steps for job in step.jobs}) == 7
    assert any(not plan.faults for plan in plans)
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


def test_no_two_tasks_of_a_plan_have_the_same_name() -> None:
    labels = [job.label for step in plan_of(3).steps for job in step.jobs]

    assert len(set(labels)) == len(labels)


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

    assert [len(step.jobs) for step in plan.steps] == [1]
    assert plan.faults == ()
