"""What a parent and its processes say to each other."""

import pytest

from actorq.cli import pipe

WORK = pipe.Work(
    url=("ws://a",), token="a-secret-token", ca=None, insecure=False, concurrency=1,
    cpu_processes=None, drain=1.0, grace=1.0, lifespan=None, log_level="info", reload=False,
    again=False,
)  # fmt: skip


@pytest.mark.parametrize("order", [WORK, pipe.Drain(), pipe.Stop()])
def test_an_order_arrives_as_it_was_given(order):
    line = pipe.line_of(order)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert pipe.read_order(line) == order


@pytest.mark.parametrize(
    "report", [pipe.Ready(), pipe.Failed("why", "in\ntwo lines"), pipe.Changed(("a.py",))]
)
def test_a_report_arrives_as_it_was_given(report):
    line = pipe.line_of(report)

    assert line.count(b"\n") == 1
    assert pipe.read_report(line) == report


def test_the_token_is_not_shown():
    assert "a-secret-token" not in repr(WORK)
