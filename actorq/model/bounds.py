"""What the fields of messages may be: types that a decoder checks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

NAME_MAX = 200
"""Characters of a name, a key or an id, which stores index."""

# What the numbers of other nodes may be; a decoder refuses all else, NaN and infinity too. (In this
# process they have been checked where they were written down.)
Seconds = Annotated[float, Meta(ge=0, le=1e10)]
Moment = Annotated[float, Meta(ge=0, le=253_402_300_799)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
PageSize = Annotated[int, Meta(ge=1, le=1_000)]
Reason = Annotated[str, Meta(max_length=10_000)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]
Label = Annotated[str, Meta(max_length=NAME_MAX)]
