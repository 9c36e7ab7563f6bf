"""`doctor`, against a queue node over a real socket, and against none."""

import socket

import pytest
import trio
from attrs import evolve

from actorq.cli.app import run
from actorq.cli.checks import Check
from actorq.cli.doctor import _kept, _paused, _slots, _versions, _work, _workers
from actorq.model.results import (
    PoolStats,
    QueueStats,
    ScheduleInfo,
    Stats,
    StoreStats,
    TaskInfo,
    WorkerInfo,
)
from tests.cli.programs import queue_node


def checks(done):
    return {check["check"]: check for check in done.json["checks"]}


def stats(*, pending=0, parked=0, workers=1, paused=False, store=None, queue="default"):
    return Stats(
        queues={queue: QueueStats(pending=pending, parked=parked, paused=paused)},
        pools={"main": PoolStats(slots=5, free=4)},
        workers=workers, success=0, failure=0, cancelled=0, retries=0, lost=0,
        store=store,
    )  # fmt: skip


def test_a_queue_node_in_order_has_no_problem(cli):
    done = cli("doctor", "--json")
    found = checks(done)

    assert done.code == 0
    assert done.json["ok"] is True
    assert {check["level"] for check in found.values()} == {"ok"}
    assert found["connection"]["found"].endswith("lets us in, without a token")
    assert found["slots"]["found"] == "5 of 5 free (main), 0 of 0 free (process)"


def test_a_task_that_nobody_knows_is_a_problem(cli):
    id = cli.submit("nobody:knows_it")

    done = cli("doctor")

    assert done.code == 1
    assert "nobody:knows_it: 1 waiting, and no worker that is connected knows it" in done.out
    cli("cancel", id)
    assert cli("doctor").code == 0


def test_a_probe_says_nothing_when_the_node_answers(cli):
    done = cli("doctor", "--probe")

    assert (done.code, done.out, done.err) == (0, "", "")


def test_a_probe_of_nobody_is_exit_code_1(cli):
    done = cli("doctor", "--probe", "--url", "ws://127.0.0.1:1", "--connect-timeout", "0.1")

    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)


def test_a_probe_of_one_who_accepts_and_never_answers_ends_in_time(cli):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = cli("doctor", "--probe", "--url", f"ws://127.0.0.1:{port}", "--connect-timeout", "1")

    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)


def test_nobody_there_is_told_as_a_check_and_exit_code_4(cli):
    done = cli("doctor", "--url", "ws://127.0.0.1:1", "--connect-timeout", "0.1", "--json")

    assert done.code == 4
    assert checks(done)["connection"]["level"] == "problem"
    assert "nobody answers at ws://127.0.0.1:1" in checks(done)["connection"]["found"]


async def test_who_shows_no_token_is_told_by_which_option(capsys, monkeypatch):
    monkeypatch.delenv("ACTORQ_TOKEN", raising=False)
    async with queue_node(tokens={"client": "the-clients-own"}, instruments=()) as system:
        url = system.addresses[0]
        for arguments, code in (["doctor"], 4), (["doctor", "--probe"], 1):
            assert await trio.to_thread.run_sync(run, [*arguments, "--url", url]) == code
            printed = capsys.readouterr()
            assert "set ACTORQ_TOKEN, or give --token-file" in printed.out + printed.err


def test_different_versions_are_a_warning():
    assert _versions("1.0", "1.0").level == "ok"
    assert _versions("1.0", "1.1") == Check("versions", "warning", "actorq 1.0 there, 1.1 here")


def test_no_worker_is_a_problem_only_if_tasks_wait():
    assert _workers(stats(workers=0), [], 0).level == "warning"
    assert _workers(stats(workers=0), [], 3) == Check(
        "workers", "problem", "none is connected; tasks that wait: 3"
    )


def test_a_worker_out_of_reach_is_a_warning():
    away = WorkerInfo("w.1", connected=False, remote=True, slots=5, running=1)

    assert _workers(stats(), [away], 0) == Check("workers", "warning", "1; out of reach: w.1")


def test_what_waits_though_there_are_slots_is_told():
    assert _slots(stats(), 2).found == "4 of 5 free (main); tasks that wait: 2"


def test_a_full_queue_and_different_signatures_are_warnings():
    infos = [TaskInfo("shop:buy", workers=2, waiting=0, versions=2)]

    found = list(_work(stats(parked=7), infos, []))

    assert found[2:] == [
        Check("queues", "warning", "submissions that wait for room in a full queue: 7"),
        Check(
            "task versions", "warning", "shop:buy: its workers have 2 different signatures of it"
        ),
    ]


def test_a_queue_that_is_paused_is_a_warning_with_the_way_out():
    (kept, paused) = _kept(stats(pending=3, paused=True, store=StoreStats("memory://")))

    assert kept == Check("store", "ok", "memory://")
    assert paused.level == "warning"
    assert paused.found == "queue default; tasks that wait: 3: actorq resume default"


def test_the_way_out_can_be_pasted_whatever_the_queue_is_called():
    found = stats(paused=True, queue="a b", store=StoreStats("memory://"))

    assert [check.found for check in _kept(found)][1] == "queue a b: actorq resume 'a b'"


def test_a_schedule_that_is_paused_is_a_warning_with_the_way_out():
    ticking = ScheduleInfo("hourly", "job", "every 3600 s", None, None, None, False, "last", "skip")
    paused = evolve(ticking, name="of the night", paused=True)

    assert list(_paused([ticking, paused])) == [
        Check(
            "paused",
            "warning",
            "schedule of the night: actorq schedule resume 'of the night'",
        )
    ]


def test_a_slow_disk_is_a_warning():
    slow = StoreStats("sqlite:///a.db", commits=10, seconds=2.0, slowest=1.0)

    (kept,) = _kept(stats(store=slow))

    assert kept.level == "warning"
    assert "200.0 ms each" in kept.found


def test_a_token_file_that_others_can_read_is_a_warning(cli, tmp_path):
    file = tmp_path / "token"
    file.write_text("a-long-enough-token\n")
    file.chmod(0o644)

    found = checks(cli("doctor", "--json", "--token-file", str(file)))

    assert found["token file"]["level"] == "warning"
    assert found["token file"]["found"].endswith(f"chmod 600 {file}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--probe", "--store", "sqlite:///a.db"], "--store does without one"),
        (["--deep"], "say which by --store"),
        (["--store", "paper://a"], "no store for 'paper://a'"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(cli, arguments, said):
    done = cli("doctor", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
