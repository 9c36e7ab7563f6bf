"""Who may come in as what, and that nobody learns how from us."""

import gc
import hmac
import traceback
from pathlib import Path
from typing import Any

import pytest

from actorq.system import tokens as module
from actorq.system.tokens import Tokens, own_token, read_tokens

CLIENT, WORKER, ADMIN = "client-secret-1", "worker-secret-1", "admin-secret-1"


@pytest.fixture
def tokens() -> Tokens:
    return Tokens({"client": CLIENT, "worker": [WORKER, "worker-secret-2"], "admin": ADMIN})


def test_a_token_has_one_role(tokens: Tokens) -> None:
    assert tokens.role(CLIENT) == "client"
    assert tokens.role(WORKER) == tokens.role("worker-secret-2") == "worker"
    assert tokens.role(ADMIN) == "admin"


@pytest.mark.parametrize(
    "wrong", [None, "", "client", "client-secret-", "client-secret-11", "\udcff"]
)
def test_whoever_has_none_of_them_is_unauthorized(tokens: Tokens, wrong: str | None) -> None:
    assert tokens.role(wrong) == 401


def test_without_any_everybody_may_do_everything() -> None:
    assert not Tokens()
    assert Tokens().role(None) == Tokens().role("anything") == "admin"


def test_every_token_is_compared_whichever_fits_and_in_constant_time(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    in_constant_time = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return in_constant_time(one, other)

    monkeypatch.setattr(module.hmac, "compare_digest", compare)

    for given in (CLIENT, ADMIN, "x" * 10_000, None):
        compared.clear()
        tokens.role(given)
        assert compared == [(32, 32)] * 4, "digests, so that not even the length tells anything"


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "there are none"),
        ({"client": []}, "there are none"),
        ({"boss": "boss-secret-1"}, "roles are client, worker, admin"),
        ({"client": "short"}, "8 or more printable ASCII"),
        ({"client": ""}, "8 or more printable ASCII"),
        ({"client": [CLIENT, "short"]}, "8 or more printable ASCII"),
        ({"client": "unicode-s\u00e9cret"}, "8 or more printable ASCII"),
        ({"client": "with\nnewline"}, "8 or more printable ASCII"),
        ({"client": "with a space"}, "8 or more printable ASCII"),
    ],
)
def test_what_cannot_be_a_token_is_refused_and_not_shown(given: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Tokens(given)

    told = "".join(traceback.format_exception(caught.value))
    for secret in ("boss", "short", "s\u00e9cret", "newline", "a space"):
        assert secret not in told.replace("tokens(given)", "")


def test_one_token_is_for_one_role() -> None:
    with pytest.raises(ValueError, match="two roles"):
        Tokens({"client": CLIENT, "worker": CLIENT})


@pytest.mark.parametrize("given", [7, b"bytes-secret", ["a-list-secret"], object()])
def test_what_stands_for_no_tokens_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="tokens must be Tokens, a mapping of roles"):
        read_tokens(given)


# --- rotation ------------------------------------------------------------------------------------


def test_tokens_are_replaced_in_one_go(tokens: Tokens) -> None:
    tokens.replace({"client": ["client-secret-2", CLIENT]})
    assert tokens.role(CLIENT) == tokens.role("client-secret-2") == "client"
    assert tokens.role(WORKER) == 401

    tokens.replace({"client": "client-secret-2"})
    assert tokens.role(CLIENT) == 401


@pytest.mark.parametrize("wrong", [{}, {"client": []}, {"client": "short"}, {"boss": CLIENT}])
def test_a_replacement_that_is_none_leaves_the_tokens_as_they_were(
    tokens: Tokens, wrong: Any
) -> None:
    """Above all: no tokens at all would let in everybody."""
    with pytest.raises(ValueError, match="tokens"):
        tokens.replace(wrong)

    assert tokens.role(CLIENT) == "client"
    assert tokens.role(None) == 401


def test_a_file_has_a_role_and_a_token_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# for the web\nclient:{CLIENT}\n\n worker : {WORKER} \nclient:a:b:c:d:e\n")

    for tokens in (Tokens(file=file), read_tokens(file), read_tokens(str(file))):
        assert tokens.role(CLIENT) == tokens.role("a:b:c:d:e") == "client"
        assert tokens.role(WORKER) == "worker"


def test_a_file_is_read_again_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"client:{CLIENT}\n")
    tokens = Tokens(file=file)
    file.write_text(f"client:client-secret-2\nclient:{CLIENT}\n")
    assert tokens.role("client-secret-2") == 401

    tokens.reload()

    assert tokens.role("client-secret-2") == tokens.role(CLIENT) == "client"


@pytest.mark.parametrize(
    "content", ["", "# none\n", "client-secret-3\n", "boss:boss-secret-1\n", "client:short\n"]
)
def test_a_file_that_makes_no_sense_leaves_the_tokens_as_they_were(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"client:{CLIENT}\n")
    tokens = Tokens(file=file)
    file.write_text(content)

    with pytest.raises(ValueError, match="token") as caught:
        tokens.reload()

    assert tokens.role(CLIENT) == "client"
    assert tokens.role(None) == 401
    for secret in ("secret-3", "boss", "short"):
        assert secret not in str(caught.value)


def test_a_file_that_is_gone_leaves_the_tokens_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"client:{CLIENT}\n")
    tokens = Tokens(file=file)
    file.unlink()

    with pytest.raises(FileNotFoundError):
        tokens.reload()

    assert tokens.role(CLIENT) == "client"


def test_a_file_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tokens(tmp_path / "nothing")


def test_tokens_without_a_file_are_not_read_again(tokens: Tokens) -> None:
    tokens.reload()

    assert tokens.role(CLIENT) == "client"


# --- secrecy -------------------------------------------------------------------------------------


def test_nothing_of_a_token_is_kept_or_shown(tokens: Tokens) -> None:
    secrets = (CLIENT, WORKER, ADMIN)
    shown = [repr(tokens), str(tokens), f"{tokens}", repr(vars(tokens))]
    reachable = [text for text in _all_of(tokens) if isinstance(text, str)]

    assert repr(tokens) == "<Tokens, 4 of them>"
    for secret in secrets:
        assert not any(secret in text for text in shown + reachable)


def _all_of(thing: object) -> list[object]:
    """Return all objects that its state leads to."""
    found: list[object] = []
    todo = [vars(thing)]
    while todo:
        for inner in gc.get_referents(todo.pop()):
            found.append(inner)
            if isinstance(inner, dict | list | tuple):
                todo.append(inner)
    return found


# --- one's own -----------------------------------------------------------------------------------


def test_the_token_to_show_is_the_one_given_or_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACTORQ_TOKEN", "from-the-environment")
    assert own_token("given-as-argument") == "given-as-argument"
    assert own_token(None) == "from-the-environment"

    monkeypatch.setenv("ACTORQ_TOKEN", "")
    assert own_token(None) is None
    monkeypatch.delenv("ACTORQ_TOKEN")
    assert own_token(None) is None


def test_given_tokens_are_used_as_they_are(tokens: Tokens) -> None:
    assert read_tokens(tokens) is tokens
    assert not read_tokens(None)
    assert read_tokens({"client": CLIENT}).role(CLIENT) == "client"
