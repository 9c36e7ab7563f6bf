"""What is wrong with an address is wrong with the command line."""

import pytest
import trustme

from actorq.cli.dialling import dialled, several, transports
from actorq.cli.exits import Exit, Failure


def test_addresses_are_separated_by_commas_too():
    assert several("--url", ("ws://a, ws://b", "ws://c,")) == ("ws://a", "ws://b", "ws://c")


def test_an_address_that_cannot_be_is_a_wrong_command_line():
    for url in ("http://a", "ws://", "ws://user:secret@a", ""):
        with pytest.raises(Failure) as caught:
            dialled((url,), None, insecure=False, secret=False)
        assert caught.value.code is Exit.USAGE
        assert "secret" not in str(caught.value)
    with pytest.raises(Failure, match=r"^ws://a:99999: this URL cannot be read"):
        dialled(("ws://b:1,ws://a:99999",), None, insecure=False, secret=True)


def test_addresses_with_and_without_encryption_go_together(tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")

    found = dialled(
        ("ws://localhost:1,wss://localhost:2",), tmp_path / "ca.pem", insecure=False, secret=False
    )

    assert [transport.url for transport in found] == ["ws://localhost:1", "wss://localhost:2"]
    with pytest.raises(Failure, match="--ca is for wss:// addresses, and there is none"):
        dialled(("ws://localhost:1",), tmp_path / "ca.pem", insecure=False, secret=False)


def test_to_listen_to_other_machines_without_tokens_needs_a_word():
    def listening(**options):
        return transports(
            ["ws://0.0.0.0:0"], 1_000_000, None, "--tls-cert", open_to_all=True, **options
        )

    with pytest.raises(Failure, match="give --token-file, or say --insecure"):
        listening(insecure=False)
    assert len(listening(insecure=True)) == 1


def test_a_token_over_the_network_needs_encryption_or_a_word():
    def dialling(url, **options):
        return dialled((url,), None, **{"insecure": False, "secret": True} | options)

    with pytest.raises(Failure, match=r"to ws://192\.0\.2\.1:1: use wss://, or say --insecure"):
        dialling("ws://localhost:1,ws://192.0.2.1:1")
    for fine in ("ws://localhost:1", "ws://[::1]:1", "wss://192.0.2.1:1", "ws+unix:///a"):
        assert len(dialling(fine)) == 1
    assert len(dialling("ws://192.0.2.1:1", insecure=True)) == 1
    assert len(dialling("ws://192.0.2.1:1", secret=False)) == 1
