"""A serial adapter that can be taken out of the computer: a pseudo-terminal under a name that stays."""

from __future__ import annotations

from pathlib import Path

from robotrl.emulator.wire import PseudoTerminal


class Adapter:
    """One line's port. While it is out, its name is gone, and whoever has it open reads an I/O error.

    Args:
        link: the port's name, the same after every re-plug.
        baud_bd: its speed until a host sets another one.

    Raises:
        PortError: the system has no pseudo-terminal left.
    """

    def __init__(self, link: Path, baud_bd: int) -> None:
        self._link = link
        self._baud_bd = baud_bd
        self.terminal: PseudoTerminal | None = None
        """None while the adapter is out."""
        self.insert()

    @property
    def path(self) -> str:
        """The name under which hosts open it."""
        return str(self._link)

    def insert(self) -> None:
        """Put the adapter in: the port appears, without the bytes of earlier times."""
        self.terminal = PseudoTerminal(self._baud_bd)
        self._link.symlink_to(self.terminal.path)

    def eject(self) -> None:
        """Take the adapter out; out already, nothing happens."""
        if self.terminal is not None:
            self._link.unlink()
            self.terminal.close()
            self.terminal = None
