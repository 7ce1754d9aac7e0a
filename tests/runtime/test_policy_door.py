"""Opening a policy file reads that one file: no network, no other file, no pickle, no code from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robotrl.spec.shipped import find_shipped, shipped_names
from tests.blocking import TRAIN, run_without

CODE = """
import sys
from pathlib import Path
from robotrl.runtime.policy import Policy

file = Path({file!r})
Policy.load(file).replay_golden()  # whatever is imported on the way is there now
seen = []

def watch(event, arguments):
    seen.append((event, str(arguments[0]) if arguments else ""))

sys.addaudithook(watch)
{audited}
for event, what in list(seen):
    print(event, what)
"""


def audited(file: Path, code: str = "Policy.load(file).replay_golden()") -> set[str]:
    """What the interpreter reports while a policy is opened and replayed, or other code runs."""
    done = run_without(TRAIN, CODE.format(file=str(file), audited=code))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


@pytest.mark.parametrize("name", shipped_names("policies"))
def test_opening_and_replaying_opens_that_file_and_nothing_else(name: str) -> None:
    file = find_shipped("policies", name)
    assert audited(file) == {f"open {file}"}


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("import pickle; pickle.loads(pickle.dumps(Path))", "pickle.find_class"),
        ("import socket; socket.socket().close()", "socket.__new__"),
        ("open('/dev/null').close()", "open /dev/null"),
        ("exec('1')", "exec"),
        ("import subprocess; subprocess.run([sys.executable, '-c', ''])", "subprocess.Popen"),
    ],
)
def test_the_watch_would_have_seen_it(code: str, event: str) -> None:
    assert any(line.startswith(event) for line in audited(find_shipped("policies", "quad12_walk"), code))
