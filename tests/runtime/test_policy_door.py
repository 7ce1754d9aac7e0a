"""Opening a policy file reads that one file: no network, no other file, no pickle, no code from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


WHOLE_LIFE = """
import os, sys
from pathlib import Path
{imports}
os.write(1, b"opening\\n")
{work}
os.write(1, b"done\\n")
print(*(os.readlink(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd")[3:-1]))
print(len(os.listdir("/proc/self/task")), "thread")
"""

MARKS = "opening", "done"

ROBOT = "from robotrl.runtime.policy import Policy", "Policy.load(Path({file!r})).replay_golden()"

EXPORT = (
    "from robotrl.export.network import _open as foreign; from robotrl.export.verify import _open as ours",
    "data = Path({file!r}).read_bytes(); ours(data); foreign(data, Path({file!r}))",
)


def of_a_stranger(home: Path) -> dict[str, str]:
    """Environment of someone who has set nothing, least of all what this suite or CI sets."""
    folders = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
    settings = {
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), **folders, **settings}


def lived(home: Path, life: tuple[str, str], *tracer: str) -> str:
    """Output of a fresh process that opens a shipped policy and runs it."""
    file = str(find_shipped("policies", "quad12_walk"))
    imports, work = (text.format(file=file) for text in life)
    code = WHOLE_LIFE.format(imports=imports, work=work)
    done = subprocess.run(
        [*tracer, sys.executable, "-c", code],
        env=of_a_stranger(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("life", [ROBOT, EXPORT], ids=["robot", "export"])
def test_it_leaves_nothing_in_the_home_folder_no_connection_and_no_thread(
    tmp_path: Path, life: tuple[str, str]
) -> None:
    assert lived(tmp_path, life) == "opening\ndone\n\n1 thread\n"
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(
    shutil.which("strace") is None, reason="needs strace, to see what libraries do by themselves"
)
def test_the_kernel_sees_one_file_opened_and_no_socket_ever(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    home.mkdir()
    lived(home, ROBOT, "strace", "-fqqa1", "-o", str(log), "-e", "trace=openat,write,clone,?clone3,%network")
    calls = [line.partition(" ")[2].strip() for line in log.read_text().splitlines()]
    start, end = (calls.index(f'write(1, "{mark}\\n", {len(mark) + 1}) = {len(mark) + 1}') for mark in MARKS)
    opened = [call.split('"')[1] for call in calls[start + 1 : end]]
    assert opened == [str(find_shipped("policies", "quad12_walk"))]
    assert {call.partition("(")[0] for call in calls if "(" in call} == {"openat", "write"}
