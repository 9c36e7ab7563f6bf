import os
import subprocess
import sys
from pathlib import Path

import pytest

from actorq.stores.locks import OwnerLock, network_file_system

FORKING_HOLDER = """
import os, sys
from actorq.stores.locks import OwnerLock
lock = OwnerLock(sys.argv[1])
assert lock.take()
if os.fork():
    os.wait()
else:
    print("forked, and", lock.held, "there", flush=True)
    sys.stdin.read()
    print("the child has lived until now", flush=True)
"""
HOLDER = """
import sys
from actorq.stores.locks import OwnerLock
assert OwnerLock(sys.argv[1]).take()
print("held", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time_has_it(tmp_path: Path) -> None:
    first, second = OwnerLock(tmp_path / "a.db"), OwnerLock(tmp_path / "a.db")
    assert [first.held, first.take(), first.take(), first.held] == [False, True, True, True]
    assert [second.take(), second.held, second.elsewhere] == [False, False, True]
    first.free()
    first.free()

    assert [first.held, second.take(), second.elsewhere] == [False, True, False]
    second.free()


def test_locks_of_two_files_are_two(tmp_path: Path) -> None:
    first, second = OwnerLock(tmp_path / "a.db"), OwnerLock(tmp_path / "b.db")

    assert first.take()
    assert second.take()
    first.free()
    second.free()


def test_it_ends_with_the_process_that_has_it(tmp_path: Path) -> None:
    lock = OwnerLock(tmp_path / "a.db")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "a.db"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert not lock.take()
        process.kill()
        process.wait()

        assert lock.take()
    lock.free()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing can be forked")
def test_a_child_that_was_forked_does_not_keep_it(tmp_path: Path) -> None:
    lock = OwnerLock(tmp_path / "a.db")
    with subprocess.Popen(
        [sys.executable, "-c", FORKING_HOLDER, tmp_path / "a.db"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"forked, and False there\n"
        assert not lock.take()
        assert lock.elsewhere
        process.kill()
        process.wait()
        assert lock.take()
        process.stdin.close()
        assert process.stdout.read() == b"the child has lived until now\n"
    lock.free()


def test_a_program_that_is_started_meanwhile_does_not_keep_it(tmp_path: Path) -> None:
    first, second = OwnerLock(tmp_path / "a.db"), OwnerLock(tmp_path / "a.db")
    assert first.take()
    with subprocess.Popen(
        [sys.executable, "-c", "print(input(), flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, close_fds=False,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"begun\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"begun\n"
        first.free()
        assert second.take()
        process.kill()
    second.free()


def test_where_there_can_be_none_nobody_has_it(tmp_path: Path) -> None:
    lock = OwnerLock(tmp_path / "missing" / "a.db")

    assert not lock.take()
    assert not lock.held
    assert not lock.elsewhere


def test_a_lock_whose_file_was_deleted_is_not_worth_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, opened = OwnerLock(tmp_path / "a.db"), os.open

    def opens_what_is_deleted(*args: object) -> int:
        file = opened(*args)  # type: ignore[arg-type]
        (tmp_path / "a.db.lock").unlink()
        return file

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opens_what_is_deleted)
        assert not lock.take()

    assert lock.take()
    lock.free()


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /mnt/nfs rw - nfs4 server:/export rw,vers=4.2
31 22 0:27 / /mnt/with\\040space rw - cifs //server/share rw
32 22 0:28 / /mnt/ssh rw,nosuid - fuse.sshfs me@server:/ rw
33 22 0:29 / /mnt/ntfs rw - fuse.ntfs-3g /dev/sdb1 rw
34 30 8:17 / /mnt/nfs/disk rw - xfs /dev/sdc1 rw
35 22 0:30 / /mnt/twice rw - nfs server:/x rw
36 22 8:33 / /mnt/twice rw - ext4 /dev/sdd1 rw
not a line of it
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/tasks.db", None),
        ("/mnt/nfs/tasks.db", "nfs4"),
        ("/mnt/nfs/deeper/tasks.db", "nfs4"),
        ("/mnt/nfsx/tasks.db", None),
        ("/mnt/with space/tasks.db", "cifs"),
        ("/mnt/ssh/tasks.db", "fuse.sshfs"),
        ("/mnt/ntfs/tasks.db", None),
        ("/mnt/nfs/disk/tasks.db", None),
        ("/mnt/twice/tasks.db", None),
    ],
)
def test_a_path_on_another_machine_is_found_out(
    tmp_path: Path, path: str, kind: str | None
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")

    assert network_file_system(path, str(mounts)) == kind


def test_where_nobody_says_what_is_mounted_nothing_is_found_out(tmp_path: Path) -> None:
    assert network_file_system("/mnt/nfs/tasks.db", str(tmp_path / "missing")) is None


def test_this_machine_is_asked(tmp_path: Path) -> None:
    assert network_file_system(tmp_path) in (None, "9p")
