"""`robotrl <command>`: parse the arguments, run the command, turn errors into one line and an exit code."""

from __future__ import annotations

import functools
import operator
import os
import select
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Protocol

import tyro

from robotrl.cli.bench import Bench
from robotrl.cli.bus import Bus
from robotrl.cli.check import Check
from robotrl.cli.demo import Demo
from robotrl.cli.emulate import Emulate
from robotrl.cli.eval import Eval
from robotrl.cli.export import Export
from robotrl.cli.import_ import Import
from robotrl.cli.replay import Replay
from robotrl.cli.report import Report
from robotrl.cli.run import Run
from robotrl.cli.train import Train
from robotrl.cli.video import Video
from robotrl.cli.view import View
from robotrl.errors import BadInputError, DivergedError, PortError, RobotrlError, ScreenError

FINE, PROBLEM, WRONG_USE, DIVERGED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done; something was found wrong; nothing was done; a training run diverged; ended by Ctrl-C."""


class Command(Protocol):
    """A frozen dataclass whose fields are the options of one command."""

    def run(self) -> int:
        """Do the work and return an exit code."""
        ...


COMMANDS: Mapping[str, type[Command]] = MappingProxyType(
    {
        "train": Train,
        "eval": Eval,
        "export": Export,
        "import": Import,
        "check": Check,
        "run": Run,
        "emulate": Emulate,
        "bus": Bus,
        "replay": Replay,
        "report": Report,
        "bench": Bench,
        "view": View,
        "video": Video,
        "demo": Demo,
    }
)

TRAIN_PACKAGES = frozenset(
    {
        "av",
        "gymnasium",
        "gymnasium_robotics",
        "matplotlib",
        "mujoco",
        "onnx",
        "onnxscript",
        "safetensors",
        "tensorboard",
        "torch",
    }
)
"""Import names that come with `robotrl[train]` and that a robot does without."""

GPU_PACKAGES = frozenset({"mujoco_warp", "warp"})
"""Import names that come with `robotrl[gpu]`."""

BENCH_LEARN_PACKAGES = frozenset({"stable_baselines3"})
"""Import names that come with `robotrl[bench-learn]`."""

BENCH_BUS_PACKAGES = frozenset({"dynamixel_sdk"})
"""Import names that come with `robotrl[bench-bus]`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `PROBLEM` where nobody reads what it prints.

    Args:
        arguments: what follows `robotrl`; None reads the process's own.

    Raises:
        SystemExit: by the parser: 0 after `--help`, 2 after a wrong option.
    """
    try:
        code = _run(arguments)
        if sys.stdout is not None:  # as it is where it was closed
            sys.stdout.flush()
    except BrokenPipeError:
        if not _unread():
            raise
        _print_no_more()
        return PROBLEM
    return code


def _run(arguments: Sequence[str] | None) -> int:
    """Run one command; an error of ours is one line."""
    try:
        return _parse(arguments).run()
    except (BadInputError, PortError, ScreenError) as error:
        return _fail(str(error), WRONG_USE)
    except DivergedError as error:
        return _fail(str(error), DIVERGED)
    except RobotrlError as error:
        return _fail(str(error), PROBLEM)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extras = {
            "train": TRAIN_PACKAGES,
            "gpu": GPU_PACKAGES,
            "bench-learn": BENCH_LEARN_PACKAGES,
            "bench-bus": BENCH_BUS_PACKAGES,
        }
        extra = next((name for name, packages in extras.items() if package in packages), None)
        if extra is None:
            raise
        return _fail(f"this command needs {package}: pip install 'robotrl[{extra}]'", WRONG_USE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _unread() -> bool:
    """Whether nobody reads what is printed any more, as behind `| head`."""
    poll = select.poll()
    poll.register(sys.stdout, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _print_no_more() -> None:
    """Let the rest of what is printed go nowhere, so that Python need not tell of it when it ends."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _parse(arguments: Sequence[str] | None) -> Command:
    named = [Annotated[command, tyro.conf.subcommand(name)] for name, command in COMMANDS.items()]
    union: Any = functools.reduce(operator.or_, named)
    command: Command = tyro.cli(
        union,
        prog="robotrl",
        description="Train a robot policy in MuJoCo, export it as one ONNX file, run it on the robot.",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return command


def _fail(sentence: str, code: int) -> int:
    print(f"robotrl: {sentence}", file=sys.stderr)
    return code
