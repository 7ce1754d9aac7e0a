"""The choice of actions that `robotrl view` and `robotrl video` share."""

from typing import Literal

Actions = Literal["zero", "random", "trained"]
