"""Where the token comes from."""

from pathlib import Path

import pytest

from actorq.cli.exits import Exit, Failure
from actorq.cli.secret import read_token


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "tokens"
        file.write_text(text)
        return file

    return write


def test_without_a_file_it_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("ACTORQ_TOKEN", "from-the-environment")
    assert read_token(None, "client") == "from-the-environment"
    for nothing in ("", None):
        monkeypatch.delenv("ACTORQ_TOKEN") if nothing is None else monkeypatch.setenv(
            "ACTORQ_TOKEN", nothing
        )
        assert read_token(None, "client") is None


def test_a_file_goes_before_the_environment(write, monkeypatch):
    monkeypatch.setenv("ACTORQ_TOKEN", "from-the-environment")

    assert read_token(write("from-the-file\n"), "client") == "from-the-file"


def test_a_file_may_hold_nothing_but_the_token(write):
    assert read_token(write("\n# ours\n a:b:c \n"), "client") == "a:b:c"


def test_of_a_servers_file_it_is_the_first_for_the_role_or_for_admin(write):
    file = write("# all\nclient: new-client\nclient:old-client\nadmin:the-admin\n")

    assert read_token(file, "client") == "new-client"
    assert read_token(file, "worker") == "the-admin"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it must hold one token"),
        ("one\ntwo\n", "it must hold one token"),
        ("client:secret\ntwo\n", "it must hold one token"),
        ("worker:secret\n", "no token for the role client or admin"),
        ("client:\n", "no token for the role client or admin"),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_repeated(write, text, said):
    with pytest.raises(Failure, match=said) as caught:
        read_token(write(text), "client")

    assert caught.value.code is Exit.USAGE
    assert "secret" not in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named(write, tmp_path):
    with pytest.raises(Failure, match=r"nowhere: No such file"):
        read_token(tmp_path / "nowhere", "client")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Failure, match=r"binary: it is not UTF-8"):
        read_token(Path(tmp_path / "binary"), "client")
