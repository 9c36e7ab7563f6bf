"""`actorq serve` as a program: where it listens, whom it lets in, and how it ends."""

import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

import actorq
import actorq.telemetry.prometheus
from actorq.cli.app import run
from tests.cli.programs import CHORES, Program, program, said_by

ANYWHERE = ("--listen", "ws://127.0.0.1:0", "--json")


async def address_of(serving: Program) -> str:
    (address,) = (await serving.event("listening"))["addresses"]
    return str(address)


@asynccontextmanager
async def serve(*arguments: str) -> AsyncIterator[tuple[Program, actorq.Client]]:
    """Start a queue node, and connect to it."""
    async with (
        program("serve", *ANYWHERE, *arguments) as serving,
        actorq.connect(await address_of(serving), instruments=()) as client,
    ):
        yield serving, client


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
async def test_it_says_where_it_listens_and_where_tasks_are_kept(
    tmp_path: Path, scheme: str
) -> None:
    url, ends, left = "memory://", ": they end with this process", "all was finished"
    if scheme == "sqlite":
        url, ends = f"sqlite:///{tmp_path}/tasks.db", ""
        left = f"what is left is kept in {url}"
    async with program("serve", "--listen", "ws://127.0.0.1:0", "--store", url) as serving:
        assert (await serving.line()).startswith(b"listening at ws://127.0.0.1:")
        assert (await serving.line()).decode() == f"tasks are kept in {url}{ends}"
        serving.terminate()

        assert await serving.end() == 0
        assert serving._rest.decode().endswith(f"ended: {left}\n")


async def test_running_tasks_finish_before_it_ends(tmp_path: Path) -> None:
    async with serve(CHORES) as (serving, client):
        handle = await client.submit(f"{CHORES}:until", str(tmp_path / "go"))
        await said_by(client, handle.id)

        serving.terminate()
        await serving.event("draining")
        (tmp_path / "go").touch()

        assert await handle.value() == "seen"
        assert await serving.event("ended") == {"event": "ended", "cut_off": 0}
        assert await serving.end() == 0


async def test_how_many_tasks_were_cut_off_is_told_and_the_exit_code_says_so() -> None:
    async with serve(CHORES, "--drain", "0.1") as (serving, client):
        running = await client.submit(f"{CHORES}:announced_forever")
        await said_by(client, running.id)
        await client.submit("nobody:knows_it")
        cancelled = await client.submit(f"{CHORES}:forever")
        await cancelled.cancel()

        serving.terminate()

        assert (await running.wait()).reason.startswith("cancelled by shutdown")
        assert await serving.event("ended") == {"event": "ended", "cut_off": 2}
        assert await serving.end() == 3


async def test_a_second_signal_stops_it_at_once() -> None:
    async with serve(CHORES) as (serving, client):
        running = await client.submit(f"{CHORES}:announced_forever")
        await said_by(client, running.id)

        serving.terminate()
        await serving.event("draining")
        serving.process.send_signal(signal.SIGINT)

        assert await serving.event("ended") == {"event": "ended", "cut_off": None}
        assert await serving.end() == 3


# --- the store ------------------------------------------------------------------------------


async def test_what_waits_stays_in_the_store_and_is_there_again(tmp_path: Path) -> None:
    kept = ("--store", f"sqlite:///{tmp_path}/tasks.db")
    async with serve(*kept) as (serving, client):
        waiting = await client.submit(f"{CHORES}:add", 1, 2)

        serving.terminate()

        assert await serving.event("ended") == {"event": "ended", "cut_off": 0}
        assert await serving.end() == 0

    async with serve(CHORES, *kept) as (serving, client):
        assert await client.handle(waiting.id).value() == 3


async def test_a_second_one_stands_by_and_takes_over_when_the_first_is_killed(
    tmp_path: Path,
) -> None:
    kept = ("--store", f"sqlite:///{tmp_path}/tasks.db")
    async with program("serve", *ANYWHERE, *kept) as first:
        owner = await first.event("listening")
        async with program("serve", *ANYWHERE, *kept) as second:
            standing_by = await second.event("standing_by")
            async with actorq.connect(owner["addresses"][0], instruments=()) as client:
                waiting = await client.submit("nobody:knows_it")

            first.process.kill()

            url = await address_of(second)
            async with actorq.connect(url, instruments=()) as client:
                assert await client.handle(waiting.id).status() == "pending"

    assert standing_by["why"].startswith(
        f"another process owns the store (process {owner['pid']} on "
    )


async def test_a_standby_that_is_told_to_end_is_exit_code_0(tmp_path: Path) -> None:
    kept = ("--store", f"sqlite:///{tmp_path}/tasks.db")
    async with program("serve", *ANYWHERE, *kept) as first:
        await address_of(first)
        async with program("serve", "--listen", "ws://127.0.0.1:0", *kept) as second:
            assert (await second.line()).startswith(b"standing by: another process owns the store")

            second.terminate()

            assert await second.end() == 0
            assert second._rest == b"ended: it was standing by\n"


async def test_a_file_that_is_no_store_is_one_line_with_advice_and_is_not_touched(
    tmp_path: Path,
) -> None:
    file = tmp_path / "tasks.db"
    file.write_bytes(b"no database at all " * 100)
    store = ("--store", f"sqlite:///{file}", "--log-level", "error")
    async with program("serve", *ANYWHERE, *store) as serving:
        assert await serving.end() == 1

    assert serving.stderr.startswith(f"actorq: {file} is no SQLite database: give another path")
    assert serving.stderr.count("\n") == 1
    assert file.read_bytes() == b"no database at all " * 100


# --- metrics --------------------------------------------------------------------------------


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def test_metrics_are_where_it_says_until_it_has_ended() -> None:
    async with program("serve", CHORES, *ANYWHERE, "--metrics", "127.0.0.1:0") as serving:
        listening = await serving.event("listening")
        async with actorq.connect(listening["addresses"][0], instruments=()) as client:
            assert await client.call(f"{CHORES}:add", 1, 2) == 3

        published = await trio.to_thread.run_sync(read, listening["metrics"])

    assert 'actorq_tasks_ended_total{queue="default",status="success"} 1.0\n' in published
    assert "actorq_up 1.0\n" in published


async def test_a_standby_publishes_that_it_is_not_up(tmp_path: Path) -> None:
    kept = ("--store", f"sqlite:///{tmp_path}/tasks.db")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with program("serve", *ANYWHERE, *kept) as first:
        await address_of(first)
        async with program("serve", *ANYWHERE, *kept, "--metrics", address) as second:
            await second.event("standing_by")

            published = await trio.to_thread.run_sync(read, f"http://{address}/metrics")

    assert "actorq_up 0.0\n" in published
    assert 'actorq_events_total{kind="standing_by"} 1.0\n' in published


async def test_metrics_at_an_address_that_is_taken_are_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ("--metrics", address, "--log-level", "error")
        async with program("serve", *ANYWHERE, *options) as serving:
            assert await serving.end() == 1

    assert serving.stderr.startswith(f"actorq: cannot listen at --metrics {address}: ")
    assert serving.stderr.count("\n") == 1


def test_metrics_without_their_extra_are_told_before_anything_starts(capsys, monkeypatch):
    monkeypatch.delattr("actorq.telemetry.prometheus")
    monkeypatch.setitem(sys.modules, "actorq.telemetry.prometheus", None)

    assert run(["serve", "--metrics", "127.0.0.1:0"]) == 2
    assert "pip install 'actorq[prometheus]'" in capsys.readouterr().err


# --- tokens ---------------------------------------------------------------------------------


async def test_its_tokens_are_read_again_and_bad_ones_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("client:the-first-token\n")
    async with program("serve", "--token-file", str(file), *ANYWHERE) as serving:
        url = await address_of(serving)

        async def lets_in(token: str) -> bool:
            try:
                async with actorq.connect(url, token=token, instruments=()):
                    return True
            except actorq.AuthenticationFailed:
                return False

        async def reload(said: str) -> None:
            serving.process.send_signal(signal.SIGHUP)
            await serving.said(said)

        assert await lets_in("the-first-token")
        assert not await lets_in("the-second-token")

        file.write_text("client:the-second-token\n")
        await reload("the tokens were read again")
        assert await lets_in("the-second-token")
        assert not await lets_in("the-first-token")

        file.write_text("nonsense\n")
        await reload("the tokens stay as they were")
        assert await lets_in("the-second-token")
        assert "-token\n" not in serving.stderr


async def test_the_token_of_the_environment_and_a_certificate_are_asked_for(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    async with program(
        "serve", "--listen", "wss://127.0.0.1:0", "--json",
        "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"),
        ACTORQ_TOKEN="the-token-of-all",
    ) as serving:  # fmt: skip
        url = await address_of(serving)
        ca = tmp_path / "ca.pem"

        async with actorq.connect(url, token="the-token-of-all", tls=ca) as client:
            assert (await client.stats()).workers == 0
        with pytest.raises(actorq.AuthenticationFailed):
            async with actorq.connect(url, tls=ca):
                pytest.fail("it must not open")


async def test_an_address_that_is_taken_is_one_line_and_exit_code_1() -> None:
    async with actorq.open_system(
        listen="ws://127.0.0.1:0", concurrency=0, processes=0, instruments=()
    ) as system:
        taken = system.addresses[0]
        async with program("serve", "--listen", taken, "--log-level", "error") as serving:
            assert await serving.end() == 1

    assert serving.stderr.startswith(f"actorq: cannot listen at {taken}: ")
    assert serving.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--store", "paper://"], "no store for 'paper://'"),
        (["--store", "sqlite://"], "names no file"),
        (["--metrics", "9464"], "--metrics: write HOST:PORT"),
        (["--listen", "http://a"], "an address begins with ws://"),
        (["--listen", ""], "there is no address"),
        (["--listen", "wss://127.0.0.1:0"], "needs --tls-cert and --tls-key"),
        (["--listen", "ws://0.0.0.0:0"], "give --token-file, or say --insecure"),
        (["--tls-cert", "a", "--tls-key", "b"], "--tls-cert a, --tls-key b: No such file"),
        (["--tls-cert", "a"], "go together"),
        (["--token-file", "/nowhere"], "/nowhere"),
        (["--lease", "0"], "lease must be at least 1"),
        (["--concurrency", "-1"], "concurrency must be 0"),
        (["--max-pending", "0"], "max_pending must be 1"),
        (["shop/tasks.py"], "as shop.tasks"),
        (["--lifespan", "nonsense"], "--lifespan must be module:attribute"),
    ],
)
def test_a_command_line_that_makes_no_sense_starts_nothing(arguments, said, capsys):
    assert run(["serve", *arguments]) == 2

    printed = capsys.readouterr()
    assert said in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_a_module_that_cannot_be_imported_is_told_with_exit_code_1(capsys):
    assert run(["serve", "nowhere.tasks"]) == 1
    assert "there is no module nowhere" in capsys.readouterr().err
