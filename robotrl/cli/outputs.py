"""Where a command is to write: refused before any work, and without a trace, where that cannot be done."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from robotrl.errors import BadInputError

LOCK = "lock"
"""File in a run's folder that the process which trains it holds."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What file systems say that have no locks; on these nobody is kept out."""


def check_folder(folder: Path) -> None:
    """Refuse a folder that `--out` names and that can neither be written to nor made.

    Raises:
        BadInputError: it is a file, or nothing may be made there.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        sentence = f"cannot be written to: {error.strerror}"
        raise BadInputError(
            sentence, key="--out", value=str(folder), allowed="a folder that can be made"
        ) from None


def check_policy_file(file: Path) -> None:
    """Refuse a policy file that cannot be written, or beside which lies what is of another policy.

    Raises:
        BadInputError: one of these.
    """
    from robotrl.export.measured import NAME

    if file.suffix != ".onnx" or file.is_dir():
        raise BadInputError(
            "is no policy file", key="--out", value=str(file), allowed="a file whose name ends in .onnx"
        )
    for name in ("card.md", NAME):
        if (beside := file.with_name(name)).exists() and not file.exists():
            raise BadInputError(
                "stands here and belongs to another policy", file=beside, allowed="a folder of its own"
            )
    check_folder(file.parent)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a run's folder if need be, and keep others out that ask for it too while this process lives.

    Raises:
        BadInputError: another process is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sentence = "another process is training this run"
            raise BadInputError(sentence, file=folder, allowed="stop it first") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
