"""``python -m actorq`` without the extra that it needs."""

import sys
from importlib.abc import MetaPathFinder

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


def test_ctrl_c_while_modules_are_imported_is_an_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(MetaPathFinder):
        def find_spec(self, fullname: str, *_: object) -> None:
            if fullname == "actorq.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "actorq.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])

    with pytest.raises(SystemExit) as caught:
        __main__.main()

    assert caught.value.code == 130


def test_it_exits_with_the_code_of_the_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in ((["--version"], 0), (["bogus"], 2)):
        monkeypatch.setattr(sys, "argv", ["actorq", *arguments])
        with pytest.raises(SystemExit) as caught:
            __main__.main()
        assert caught.value.code == code
    assert capsys.readouterr().out.strip()
