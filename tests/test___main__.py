"""``python -m actorq`` without the extra that it needs."""

import sys

import pytest

from actorq import __main__


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_without_the_extra_it_says_how_to_install_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(SystemExit) as caught:
        __main__.main()

    assert caught.value.code == (
        f"actorq: the command line needs {missing}: pip install 'actorq[cli]'"
    )


def test_it_exits_with_the_code_of_the_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in ((["--version"], 0), (["bogus"], 2)):
        monkeypatch.setattr(sys, "argv", ["actorq", *arguments])
        with pytest.raises(SystemExit) as caught:
            __main__.main()
        assert caught.value.code == code
    assert capsys.readouterr().out.strip()
