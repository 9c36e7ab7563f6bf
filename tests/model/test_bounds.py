"""The bounds that a decoder checks."""

from typing import Any

import msgspec.msgpack
import pytest

from actorq.model import bounds as b


@pytest.mark.parametrize(
    ("kind", "fits", "does_not"),
    [
        (b.Seconds, 1e10, 2e10),
        (b.Seconds, 0.5, -1),
        (b.Seconds, 1.5, float("nan")),
        (b.Moment, 1.7e9, float("inf")),
        (b.Count, 0, -1),
        (b.PageSize, 1_000, 1_001),
        (b.PageSize, 1, 0),
        (b.Name, "a", ""),
        (b.Name, 200 * "a", 201 * "a"),
        (b.Reason, "", 10_001 * "a"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(kind: Any, fits: object, does_not: object) -> None:
    decoder = msgspec.msgpack.Decoder(kind)

    assert decoder.decode(msgspec.msgpack.encode(fits)) == fits
    with pytest.raises(msgspec.ValidationError):
        decoder.decode(msgspec.msgpack.encode(does_not))
