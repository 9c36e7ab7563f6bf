"""From an exception to what is kept of it, and to what it means for the retry policy."""

import pytest

import actorq
from actorq.actors.executors.failures import describe, leaves, retryable, wants_later
from actorq.errors import GiveUp, RetryLater


class Mute(Exception):
    """An exception that cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Wild(Exception):
    """An exception whose words end the program."""

    def __str__(self) -> str:
        raise SystemExit(1)


def raised(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_an_error_is_described_by_type_message_traceback_notes_and_bases() -> None:
    error = raised(FileNotFoundError("gone"))
    error.add_note("look elsewhere")

    found = describe(error)

    assert (found.type, found.message) == ("builtins.FileNotFoundError", "gone")
    assert found.notes == ("look elsewhere",)
    assert "in raised" in found.traceback
    assert found.matches(OSError)
    assert found.mro[-1] == "builtins.BaseException"


def test_a_group_has_its_members_as_children() -> None:
    found = describe(ExceptionGroup("two", [ValueError("a"), ExceptionGroup("", [KeyError("b")])]))

    assert [child.type for child in found.children] == [
        "builtins.ValueError",
        "builtins.ExceptionGroup",
    ]
    assert found.matches(KeyError)
    assert not found.matches(OSError)


@pytest.mark.parametrize("kind", [Mute, Wild])
def test_an_error_that_cannot_be_read_is_described_all_the_same(kind: type[Exception]) -> None:
    found = describe(raised(kind()))

    assert found.message.startswith("<its __str__ raised")
    assert found.type.endswith(kind.__name__)


def test_notes_that_are_no_list_and_no_text_hurt_nobody() -> None:
    strange, worse = ValueError(), ValueError()
    strange.__notes__ = 7  # type: ignore[assignment]
    worse.__notes__ = [Mute()]  # type: ignore[list-item]

    assert describe(strange).notes == ()
    assert len(describe(worse).notes) == 1


def test_notes_and_tracebacks_that_cannot_be_read_hurt_nobody() -> None:
    class Hidden(Exception):
        @property
        def __notes__(self) -> list[str]:
            raise RuntimeError("no notes")

    found = describe(raised(Hidden("said")))

    assert (found.message, found.notes) == ("said", ())
    assert found.traceback


def test_long_texts_are_cut_in_the_middle() -> None:
    found = describe(ValueError("a" * 1_000_000 + "end"))

    assert len(found.message) < 40_000
    assert found.message.startswith("aaa")
    assert found.message.endswith("end")
    assert "characters ...]" in found.message


def test_deep_and_wide_groups_are_bounded() -> None:
    deep: Exception = ValueError()
    for _ in range(200):
        deep = ExceptionGroup("", [deep])
    wide = ExceptionGroup("", [ValueError() for _ in range(1_000)])

    assert len(describe(wide).children) == 50
    depth, error = 0, describe(deep)
    while error.children:
        depth, error = depth + 1, error.children[0]
    assert depth == 5


def test_a_group_that_contains_what_it_was_caused_by_is_described() -> None:
    error = ValueError("circle")
    error.__cause__ = error

    assert describe(error).message == "circle"


def test_leaves_are_what_groups_are_made_of() -> None:
    first, second = ValueError(), KeyError()

    assert list(leaves(first)) == [first]
    assert list(leaves(ExceptionGroup("", [first, ExceptionGroup("", [second])]))) == [
        first,
        second,
    ]


@pytest.mark.parametrize(
    ("error", "retry", "expected"),
    [
        (ValueError(), {}, True),
        (ValueError(), {"attempts": 1}, False),
        (ValueError(), {"on": (OSError,)}, False),
        (FileNotFoundError(), {"on": (OSError,)}, True),
        (FileNotFoundError(), {"on": ("builtins.OSError",)}, True),
        (FileNotFoundError(), {"never": (OSError,)}, False),
        (ExceptionGroup("", [ValueError(), OSError()]), {"on": (OSError,)}, True),
        (ExceptionGroup("", [ValueError(), OSError()]), {"never": (OSError,)}, False),
        (GiveUp(), {}, False),
        (ExceptionGroup("", [ValueError(), GiveUp()]), {}, False),
        (SystemExit(), {}, False),
        (SystemExit(), {"on": (BaseException,)}, True),
    ],
)
def test_a_policy_is_matched_with_bases_and_members(
    error: BaseException, retry: dict[str, object], expected: bool
) -> None:
    policy = actorq.Retry(**{"attempts": 3, **retry})

    assert retryable(describe(error), policy) is expected


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (ValueError(), None),
        (RetryLater(0), 0.0),
        (RetryLater(5), 5.0),
        (ExceptionGroup("", [RetryLater(5), RetryLater(7)]), 7.0),
        (ExceptionGroup("", [RetryLater(5), ValueError()]), None),
    ],
)
def test_retry_later_is_asked_for_alone_or_by_every_member_of_a_group(
    error: Exception, delay: float | None
) -> None:
    assert wants_later(error) == delay


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "5", True, None])
def test_retry_later_wants_a_number_of_seconds(delay: object) -> None:
    with pytest.raises(ValueError, match="delay must be seconds"):
        RetryLater(delay)  # type: ignore[arg-type]
