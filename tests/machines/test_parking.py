from actorq.machines.parking import Parked, Parking
from actorq.model.messages import Submit


def parked(request: int = 0, origin: int = 1, **needs: int) -> Parked:
    return Parked(origin, Submit(request, ()), needs)


def parking_with(*waiting: Parked) -> Parking:
    parking = Parking()
    for one in waiting:
        parking.park(one)
    return parking


def leave_all(parking: Parking, **room: int) -> list[Parked]:
    """Let out everybody who fits, taking up the room."""
    left = []
    while (one := parking.next(lambda queue: room[queue])) is not None:
        parking.remove(one)
        left.append(one)
        for queue, count in one.needs.items():
            room[queue] -= count
    return left


def test_nobody_waits_in_an_empty_parking() -> None:
    parking = Parking()

    assert leave_all(parking) == []
    assert (len(parking), "a" in parking, parking.counts()) == (0, False, {})


def test_who_came_first_leaves_first() -> None:
    waiting = [parked(n, a=1) for n in range(3)]
    parking = parking_with(*waiting)

    assert leave_all(parking, a=2) == waiting[:2]
    assert leave_all(parking, a=2) == waiting[2:]
    assert "a" not in parking


def test_a_small_one_does_not_overtake_a_large_one() -> None:
    large, small = parked(0, a=3), parked(1, a=1)
    parking = parking_with(large, small)

    assert leave_all(parking, a=2) == []
    assert leave_all(parking, a=4) == [large, small]


def test_other_queues_do_not_have_to_wait() -> None:
    full, free = parked(0, a=1), parked(1, b=1)
    parking = parking_with(full, free)

    assert leave_all(parking, a=0, b=1) == [free]
    assert parking.counts() == {"a": 1}


def test_who_needs_two_queues_waits_for_room_in_both() -> None:
    both = parked(0, a=1, b=2)
    parking = parking_with(both)

    assert leave_all(parking, a=1, b=1) == []
    assert leave_all(parking, a=1, b=2) == [both]
    assert len(parking) == 0


def test_who_needs_two_queues_is_overtaken_in_neither() -> None:
    both, later = parked(0, a=1, b=1), parked(1, b=1)
    parking = parking_with(both, later)

    assert leave_all(parking, a=0, b=1) == []
    assert leave_all(parking, a=1, b=2) == [both, later]


def test_lines_never_wait_for_each_other_in_a_circle() -> None:
    first, second, third = parked(0, a=1, b=1), parked(1, b=1, c=1), parked(2, c=1, a=1)
    parking = parking_with(first, second, third)

    assert leave_all(parking, a=9, b=9, c=9) == [first, second, third]


def test_who_gives_up_leaves_every_line() -> None:
    mine, other = parked(0, 1, a=1, b=1), parked(1, 2, a=1)
    parking = parking_with(mine, other)

    assert parking.drop(lambda origin, _: origin == 1) == [mine]
    assert parking.counts() == {"a": 1}
    assert leave_all(parking, a=1) == [other]


def test_submits_are_counted_by_connection_and_each_of_them_once() -> None:
    parking = parking_with(parked(0, 1, a=1, b=1), parked(1, 1, b=1), parked(0, 2, a=1))

    assert [parking.count(origin) for origin in (1, 2, 3)] == [2, 1, 0]

    parking.withdraw(1, 0)
    assert parking.count(1) == 1


def test_everybody_can_be_sent_away() -> None:
    waiting = [parked(n, a=1, b=1) for n in range(3)]
    parking = parking_with(*waiting)

    assert parking.drop(lambda _, submit: submit.request >= 0) == waiting
    assert (len(parking), parking.count(1)) == (0, 0)


def test_who_is_asked_about_waits_and_is_in_no_line() -> None:
    parking = Parking()
    asked = Parked(1, Submit(0, ()))

    parking.ask(asked)

    assert (len(parking), parking.counts(), parking.count(1)) == (1, {}, 0)
    assert parking.answer((1, 0)) is asked
    assert parking.answer((1, 0)) is None
    assert len(parking) == 0


def test_who_is_asked_about_in_line_keeps_its_place_and_lets_nobody_pass() -> None:
    first, second, elsewhere = parked(0, a=1, b=1), parked(1, a=1), parked(2, c=1)
    parking = parking_with(first, second, elsewhere)

    parking.ask(first)
    assert leave_all(parking, a=2, b=2, c=2) == [elsewhere]
    parking.answer(first.key)

    assert leave_all(parking, a=2, b=2) == [first, second]


def test_a_place_in_line_fits_when_it_is_the_first_and_there_is_room() -> None:
    first, second = parked(0, a=1), parked(1, a=1)
    parking = parking_with(first, second)

    assert parking.fits(first, lambda _: 1)
    assert not parking.fits(first, lambda _: 0)
    assert not parking.fits(second, lambda _: 9)
    assert parking.fits(Parked(1, Submit(5, ())), lambda _: 0)  # it stands in no line


def test_who_is_asked_about_can_be_withdrawn_and_sent_away() -> None:
    parking = parking_with(parked(0, a=1))
    for number in (0, 1, 2):
        parking.ask(parked(0, a=1) if number == 0 else Parked(1, Submit(number, ())))

    parking.withdraw(1, 1)
    assert [one.submit.request for one in parking.drop(lambda *_: True)] == [0, 2]

    assert len(parking) == 0
