"""From what an outcome carries to its value, where calls and values travel."""

from __future__ import annotations

from typing import Any

from actorq.client.session import Decode
from actorq.codec.payload import decode_plain
from actorq.registry import Registry
from actorq.tasks import NamedTask


def decoder(registry: Registry) -> Decode:
    """Return what decodes values: as a known task's annotation says, or else as what they are."""

    def decode(name: str, data: Any) -> Any:
        if data is None:
            return None
        task = registry.get(name)
        if task is None or isinstance(task, NamedTask):
            return decode_plain(data)
        return task.signature.decode_value(data)

    return decode
