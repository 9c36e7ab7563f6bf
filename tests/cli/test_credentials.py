"""Where the token comes from, and what is wrong with a certificate."""

import ssl
from pathlib import Path

import pytest
import trustme

from actorq.cli.credentials import authority, certificate, read_token
from actorq.cli.exits import Exit, Failure


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


def test_what_cannot_be_a_token_is_refused_and_not_repeated(write, monkeypatch):
    monkeypatch.setenv("ACTORQ_TOKEN", "a secret\n")
    with pytest.raises(Failure, match=r"^ACTORQ_TOKEN: a token is printable"):
        read_token(None, "client")
    with pytest.raises(Failure, match=r"tokens: a token is printable ASCII without spaces$"):
        read_token(write("client:a secret\n"), "client")


def test_a_file_that_cannot_be_opened_is_named(write, tmp_path):
    with pytest.raises(Failure, match=r"nowhere: No such file"):
        read_token(tmp_path / "nowhere", "client")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Failure, match=r"binary: it is not UTF-8"):
        read_token(Path(tmp_path / "binary"), "client")


@pytest.fixture
def files(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = authority.issue_cert("localhost")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    return tmp_path


def test_certificates_are_read(files):
    trusting = authority(files / "ca.pem")
    showing = certificate(files / "cert.pem", files / "key.pem")

    assert trusting.verify_mode is ssl.CERT_REQUIRED
    assert len(trusting.get_ca_certs()) == 1
    assert showing.protocol is ssl.PROTOCOL_TLS_SERVER
    assert authority(None) is certificate(None, None) is None


def test_a_certificate_that_cannot_be_read_is_named(files):
    (files / "text.pem").write_text("no certificate")

    for wrong in ("nowhere.pem", "text.pem"):
        with pytest.raises(Failure, match=rf"--ca .*{wrong}"):
            authority(files / wrong)
        with pytest.raises(Failure, match=rf"--tls-cert .*{wrong}"):
            certificate(files / wrong, files / "key.pem")
        with pytest.raises(Failure, match=rf"--tls-key .*{wrong}"):
            certificate(files / "cert.pem", files / wrong)


def test_a_certificate_needs_its_key(files):
    with pytest.raises(Failure, match="go together"):
        certificate(files / "cert.pem", None)
    with pytest.raises(Failure, match="go together"):
        certificate(None, files / "key.pem")
