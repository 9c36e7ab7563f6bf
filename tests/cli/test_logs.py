"""Log records of programs that run for long."""

import subprocess
import sys

from tests.cli.programs import ROOT


def test_records_go_to_stderr_from_the_level_that_was_asked_for():
    code = (
        "import logging\n"
        "from actorq.cli.logs import start_logging\n"
        "start_logging('warning')\n"
        "logging.getLogger('actorq').info('quiet')\n"
        "logging.getLogger('actorq').warning('loud')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "WARNING actorq[" in done.stderr


def test_a_worker_process_needs_no_command_line_library():
    code = (
        "import sys, actorq.cli.process\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'cyclopts', 'rich'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "\n"
