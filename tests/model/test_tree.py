import pytest

from actorq.model.results import WorkerInfo
from actorq.model.tree import ActorNode, ActorState, ActorTree, SupervisorNode, TaskNode


def actor(
    name: str,
    *children: SupervisorNode,
    state: ActorState = "idle",
    restarts: int = 0,
    mailbox: int = 0,
    tasks: tuple[TaskNode, ...] = (),
) -> ActorNode:
    return ActorNode(name, state, restarts + 1, restarts, mailbox, tasks, children)


def tree(*supervisors: SupervisorNode, dead_letters: int = 0) -> ActorTree:
    return ActorTree("node", dead_letters, supervisors)


INNER = SupervisorNode("pool", "one_for_all", (actor("c"), actor("d")))
NESTED = tree(
    SupervisorNode("actorq", "one_for_one", (actor("a", INNER), actor("b"))),
    SupervisorNode("spawned", "apart", (actor("e"),)),
)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (actor("a"), "a: idle"),
        (actor("a", state="restarting", restarts=1), "a: restarting, restarts 1"),
        (actor("a", state="busy", mailbox=7), "a: busy, 7 in its mailbox"),
        (actor("a", mailbox=1, restarts=2), "a: idle, 1 in its mailbox, restarts 2"),
        (SupervisorNode("s", "apart", ()), "s (apart)"),
        (TaskNode("00ab", "pkg:job", 2, 1.25), "task pkg:job 00ab, attempt 2, 1.2 s"),
    ],
)
def test_a_node_says_what_matters_about_it(
    node: ActorNode | SupervisorNode | TaskNode, text: str
) -> None:
    assert str(node) == text


@pytest.mark.parametrize(
    ("dead_letters", "text"),
    [(0, "system node"), (1, "system node, 1 dead letter"), (2, "system node, 2 dead letters")],
)
def test_the_root_says_how_many_dead_letters_there_are(dead_letters: int, text: str) -> None:
    assert str(tree(dead_letters=dead_letters)) == text


def test_a_tree_is_drawn_with_lines() -> None:
    assert str(NESTED).splitlines() == [
        "system node",
        "├── actorq (one_for_one)",
        "│   ├── a: idle",
        "│   │   └── pool (one_for_all)",
        "│   │       ├── c: idle",
        "│   │       └── d: idle",
        "│   └── b: idle",
        "└── spawned (apart)",
        "    └── e: idle",
    ]


def test_the_tasks_of_an_actor_are_drawn_before_its_supervisors() -> None:
    one = TaskNode("1", "job", 1, 0.0)
    node = actor("a", SupervisorNode("s", "apart", ()), tasks=(one,))

    assert str(tree(SupervisorNode("top", "apart", (node,)))).splitlines()[3:] == [
        "        ├── task job 1, attempt 1, 0.0 s",
        "        └── s (apart)",
    ]


def test_workers_elsewhere_are_told_below_the_actors() -> None:
    near = WorkerInfo("near.0", connected=True, remote=True, slots=4, running=3)
    far = WorkerInfo("far.7", connected=False, remote=True, slots=2, running=0)
    top = SupervisorNode("top", "apart", ())

    assert str(ActorTree("node", 0, (top,), (near, far))).splitlines() == [
        "system node",
        "└── top (apart)",
        "worker near.0: 3 of 4 slots busy",
        "worker far.7: 0 of 2 slots busy, out of reach",
    ]


def test_workers_elsewhere_are_no_actors_of_this_system() -> None:
    near = WorkerInfo("near.0", connected=True, remote=True, slots=4, running=3)

    assert list(ActorTree("node", 0, (), (near,)).actors()) == []


def test_two_that_look_alike_are_both_drawn_with_the_right_lines() -> None:
    twins = [SupervisorNode("twin", "apart", ()) for _ in range(2)]

    assert str(tree(*twins)).splitlines()[1:] == ["├── twin (apart)", "└── twin (apart)"]


def test_every_actor_is_found_by_its_name() -> None:
    assert [NESTED.find(name).name for name in "abcde"] == list("abcde")
    assert NESTED.find("a").children == (INNER,)


def test_looking_for_an_actor_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match="pool"):
        NESTED.find("pool")  # that is a supervisor


def test_every_actor_is_listed_once_and_after_the_one_that_it_is_inside_of() -> None:
    names = [node.name for node in NESTED.actors()]

    assert sorted(names) == list("abcde")
    assert names.index("a") < names.index("c") < names.index("d")
