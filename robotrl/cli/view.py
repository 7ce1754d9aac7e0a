"""`robotrl view`: a robot in MuJoCo's viewer, in real time."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from robotrl.cli.actions import Actions


@dataclass(frozen=True)
class View:
    """Watch a robot or a Gymnasium task in MuJoCo's viewer.

    A robot that walks by command obeys the arrow keys. Sensing, delays, randomisation and pushes are those
    that it trains with. Needs a screen; `robotrl video` does not.

    Example: robotrl view quad12_walk
    """

    what: tyro.conf.Positional[str]
    """A run's folder, a policy or shipped policy, a run's TOML or shipped one, or a quarantine dump."""
    actions: Actions | None = None
    """Trained by default where there is a policy, otherwise zero."""
    seed: int = 1
    """Of the world's randomisation and of random actions."""

    def run(self) -> int:
        """Show until the window is closed."""
        import mujoco

        from robotrl.bench.opengl import check_screen
        from robotrl.bench.opening import open_player
        from robotrl.bench.steering import KEYS_HELP, KeySteering
        from robotrl.bench.window import open_window, show
        from robotrl.runtime.clock import RealClock

        keys = KeySteering()
        player = open_player(self.what, self.actions, self.seed, keys)
        for sentence in player.findings:
            print(sentence)
        check_screen()
        data = mujoco.MjData(player.model)
        data.qpos[:] = next(player.frames()).qpos
        with open_window(player.model, data, keys.press, player.view) as window:
            print(KEYS_HELP)
            show(player, data, window, RealClock())
        return 0
