import math
import random
import sys
from collections import OrderedDict, UserDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation, localcontext
from fractions import Fraction
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from msgspec.msgpack import Ext

from actorq.codec.packed import (
    DATE,
    DATETIME,
    DEPTH_MAX,
    PATH,
    SET,
    TUPLE,
    Refusal,
    kind_of,
    pack,
    unpack,
)
from actorq.codec.tagged import DECIMAL_CHARS_MAX, KINDS, TEXTS, tag, untag
from tests.codec.samples import Color, Level, Pair, Point, Size, Word, plain, told


def there_and_back(value: object) -> Any:
    return untag(unpack(pack(tag(value))))


class Elsewhere(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)


@given(plain)
def test_a_plain_value_comes_back_equal_and_of_the_same_type(value: object) -> None:
    assert told(there_and_back(value)) == told(value)


@given(plain)
def test_the_top_of_a_wire_tells_the_type(value: object) -> None:
    assert kind_of(unpack(pack(tag(value)))) in KINDS[type(value)]


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        math.inf,
        complex(-0.0, -0.0),
        complex(math.inf, math.nan),
        "\0",
        timedelta.min,
        timedelta.max,
        datetime(1, 1, 1),  # noqa: DTZ001 - without a zone, as many are
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Zurich")),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=1, microseconds=1))),
        time(1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2), "here"), fold=1),
        Decimal("-0E+999999"),
        Decimal("sNaN123"),
        Path(),
        Path("/a/../b"),
        Path("not-utf-8-\udcff"),
        PurePosixPath("//a"),
        PureWindowsPath("C:\\a"),
        bytearray(b"x"),
        {True: 1, "1": 2, 1.5: 3, None: 4, b"x": 5, (1, (2,)): 6, 2**70: 7},
        {frozenset({1, (2,)}), "x"},
        [[], (), {}, set(), frozenset()],
    ],
    ids=repr,
)
def test_awkward_values_come_back_as_they_were(value: object) -> None:
    assert told(there_and_back(value)) == told(value)


def test_the_zone_of_a_time_comes_back_with_its_name() -> None:
    named = timezone(timedelta(hours=2), "here")

    assert there_and_back(datetime(2024, 1, 1, tzinfo=named)).tzname() == "here"
    assert there_and_back(datetime(2024, 1, 1, tzinfo=UTC)).tzinfo is UTC
    zone = ZoneInfo("Europe/Zurich")
    assert there_and_back(datetime(2024, 1, 1, tzinfo=zone)).tzinfo is zone


def test_equal_sets_are_equal_bytes() -> None:
    words = [f"word {number}" for number in range(100)]
    other = random.Random(1).sample(words, 100)

    assert pack(tag(set(words))) == pack(tag(set(other)))
    assert pack(tag(frozenset(words))) == pack(tag(frozenset(other)))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Level.LOW, "Level would arrive as int"),
        (Word.YES, "Word would arrive as str"),
        (Color.RED, "Color cannot travel"),
        (Pair(1), "Pair would arrive as tuple"),
        (OrderedDict(a=1), "OrderedDict would arrive as dict"),
        (defaultdict(int), "defaultdict would arrive as dict"),
        (UserDict(), "UserDict cannot travel"),
        (deque([1]), "deque cannot travel"),
        (Point(1), "Point cannot travel"),
        (Size(1), "Size cannot travel"),
        (Fraction(1, 2), "Fraction cannot travel"),
        (len, "builtin_function_or_method cannot travel"),
        (lambda: 1, "function cannot travel"),
        (int, "type cannot travel"),
        (object(), "object cannot travel"),
        (memoryview(b"x"), "memoryview cannot travel"),
        (range(3), "range cannot travel"),
        ((n for n in ()), "generator cannot travel"),
        (ValueError("x"), "ValueError cannot travel"),
        (Ext(1, b""), "Ext cannot travel"),
        (UTC, "timezone cannot travel"),
        (..., "ellipsis cannot travel"),
        (datetime(2024, 1, 1, tzinfo=Elsewhere()), "time zone .*Elsewhere.* cannot travel"),
        (time(1, tzinfo=Elsewhere()), "time zone .* cannot travel"),
        (
            datetime(2024, 1, 1, tzinfo=ZoneInfo.no_cache("Europe/Zurich")),
            "time zone .* cannot travel",
        ),
        (Decimal("1" * (DECIMAL_CHARS_MAX + 1)), "a Decimal of over 65536 characters"),
        (Path("\ud800"), "cannot be written"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_would_not_come_back_is_refused(value: object, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        tag(value)


def test_a_zone_made_of_a_file_is_refused_whatever_it_calls_itself(tmp_path: Path) -> None:
    zone = ZoneInfo("Europe/Zurich")
    found = next(
        path
        for folder in sys.modules["zoneinfo"].TZPATH
        if (path := Path(folder, zone.key)).exists()
    )
    with found.open("rb") as file:
        forged = ZoneInfo.from_file(file, key="America/New_York")

    with pytest.raises(Refusal, match="cannot travel"):
        tag(datetime(2024, 1, 1, tzinfo=forged))


def test_an_integer_with_more_digits_than_python_prints_comes_back() -> None:
    assert there_and_back(10**30_000) == 10**30_000
    with pytest.raises(Refusal) as caught:
        tag({10**30_000: object()})
    assert caught.value.where == "[a int]"


def test_a_refusal_says_where_in_the_value() -> None:
    with pytest.raises(Refusal) as caught:
        tag({"a": [1, (2, {3: object()})]})

    assert caught.value.where == "['a'][1][1][3]"


def test_what_contains_itself_is_refused() -> None:
    items: list[Any] = []
    items.append(items)
    pairs: dict[str, Any] = {}
    pairs["self"] = (pairs,)

    for value in (items, pairs):
        with pytest.raises(Refusal, match="contains itself"):
            tag(value)


@pytest.mark.parametrize(
    "wrap",
    [lambda v: [v], lambda v: (v,), lambda v: {"a": v}, lambda v: {PurePosixPath("a"): v}],
    ids=["list", "tuple", "dict", "pairs"],
)
def test_as_deep_as_may_be_sent_may_be_read(wrap: Any) -> None:
    value: object = 2**70
    for _ in range(DEPTH_MAX):
        value = wrap(value)

    assert there_and_back(value) == value
    with pytest.raises(Refusal, match="nested deeper than 100 levels"):
        tag(wrap(value))


def test_deeper_than_may_be_sent_is_refused_when_it_arrives() -> None:
    wire: Any = 1
    for _ in range(DEPTH_MAX + 1):
        wire = Ext(TUPLE, pack([wire]))

    with pytest.raises(Refusal, match="nested deeper"):
        untag(wire)


@pytest.mark.parametrize(
    "wire",
    [
        Ext(0, b""),
        Ext(99, b""),
        Ext(TUPLE, pack({})),
        Ext(SET, pack(1)),
        Ext(DATE, pack([b"\x07\xe8\x05\xff"])),
        Ext(DATETIME, pack([2024, 13, 1, 0, 0, 0, 0, 0, None])),
        Ext(DATETIME, pack([2024, 1, 1, 0, 0, 0, 0, 0, 1])),
        Ext(DATETIME, pack([2024, 1, 1, 0, 0, 0, 0, 0, [10**18, None]])),
        Ext(DATETIME, pack([2024, 1, 1, 0, 0, 0, 0, 0, "No/Where"])),
        Ext(DATETIME, pack([2024, 1, 1, 0, 0, 0, 0, 0, "../../etc/passwd"])),
        Ext(DATETIME, pack([2024, 1, 1, 0, 0, 0, 0, 0, "."])),
        Ext(DATETIME, pack([2024, 1, 1, 0, 0, 0, 0, 0, "x" * 10_000])),
        Ext(5, b"\1" * 70_000),
        Ext(13, b"1" * 70_000),
        Ext(13, b"nonsense"),
        Ext(12, b"short"),
        Ext(PATH, b""),
        Ext(PATH, b"?x"),
        Ext(15, pack(["A", Ext(15, pack(["B", 1]))])),
        datetime.now(UTC),
        (1,),
    ],
    ids=str,
)
def test_nonsense_is_refused(wire: object) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - payload makes an EncodeError of any
        untag(wire)


def test_no_zone_that_is_not_installed_is_looked_for_by_importing_it() -> None:
    before = set(sys.modules)
    for key in ("antigravity", "this", "os/path", "tzdata"):
        with pytest.raises(Refusal, match="is not known here"):
            untag(Ext(DATETIME, pack([2024, 1, 1, 0, 0, 0, 0, 0, key])))

    assert {name for name in set(sys.modules) - before if not name.startswith("importlib")} == set()


def test_nonsense_is_no_number_where_invalid_operations_are_not_trapped() -> None:
    with localcontext() as context:
        context.traps[InvalidOperation] = False
        with pytest.raises(InvalidOperation):
            untag(Ext(13, b"nonsense"))


def test_a_path_of_another_system_is_refused_unless_it_is_pure() -> None:
    foreign, letter = ("Windows", b"W") if isinstance(Path(), PosixPath) else ("Posix", b"P")

    with pytest.raises(Refusal, match=f"a {foreign}Path cannot be used on this system"):
        untag(Ext(PATH, letter + b"a"))


def test_what_cannot_be_hashed_as_a_dict_comes_in_a_list() -> None:
    assert untag(Ext(SET, pack([{"x": 1}]))) == [{"x": 1}]
    assert untag(Ext(4, pack([{"x": 1}, 2]))) == [[{"x": 1}, 2]]


@pytest.mark.parametrize(
    "value",
    [
        Path("a/b"),
        PurePosixPath("a"),
        PureWindowsPath("a"),
        UUID(int=1),
        Decimal("1.50"),
        datetime(2024, 1, 1, tzinfo=UTC),
        date(2024, 1, 1),
        time(1, 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_written_as_text_is_read_from_it(value: Any) -> None:
    kind = Path if isinstance(value, Path) else type(value)
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)

    assert told(TEXTS[kind](text)) == told(value)
