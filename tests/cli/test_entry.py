"""A Ctrl-C is one line and code 130 from the first import on."""

import subprocess
import sys

import pytest

INTERRUPTED_AT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["more4d", "plan", "--memory", "full"]

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise {raised}

sys.meta_path.insert(0, Interrupt())
from more4d.cli.entry import start
start()
"""


@pytest.mark.parametrize(
    ("module", "raised"),
    [
        ("more4d.cli.main", "SystemError"),
        ("logging", "SystemError"),
        ("more4d.cli.plan_tables", "KeyboardInterrupt"),
        ("more4d.cli.plan_tables", "AttributeError('half a module')"),
    ],
)
def test_ctrl_c_while_importing_is_one_line(module, raised):
    code = INTERRUPTED_AT.format(module=module, raised=raised)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "interrupted\n", "")


def test_the_code_of_the_command_is_that_of_the_process():
    ended = subprocess.run(
        [sys.executable, "-m", "more4d", "plan", "--gpus", "0"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
