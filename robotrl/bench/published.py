"""Published returns on the classic tasks, with their sources, and what we want to reach.

Final returns of the deterministic policy unless a source says otherwise, mean and standard deviation
over seeds. Observations and rewards of v1 to v5 are the same on HalfCheetah, Hopper and Swimmer up to
the terminal step; Ant is the one with 27 observations (v4), or 111 of which 84 are zero (v2, v3);
Walker2d-v5 has other foot friction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Figure = float | tuple[float, float]
"""A mean, with the standard deviation over seeds where it is given."""


@dataclass(frozen=True)
class Source:
    """One row of a published table."""

    name: str
    environments: str
    """Versions."""
    seeds: int | None
    first_hand: bool
    """Read from the authors' own result files; otherwise quoted by others or read off a plot."""
    ant: Figure | None = None
    half_cheetah: Figure | None = None
    hopper: Figure | None = None
    walker2d: Figure | None = None
    swimmer: Figure | None = None
    note: str = ""

    def of(self, task: str) -> tuple[float, float | None] | None:
        """Mean and deviation, if it says them, on one of our tasks, for example `Ant-v4`."""
        figure = {
            "Ant-v4": self.ant,
            "HalfCheetah-v5": self.half_cheetah,
            "Hopper-v5": self.hopper,
            "Walker2d-v5": self.walker2d,
            "Swimmer-v5": self.swimmer,
        }[task]
        return figure if figure is None or isinstance(figure, tuple) else (figure, None)


TIANSHOU, SPINNING_UP, TD3_PAPER = "Tianshou", "Spinning Up", "TD3 paper, table 1"
TRAINING = "training returns, not deterministic"
HIGHEST = "of each run the highest evaluation"

PUBLISHED: Mapping[str, tuple[Source, ...]] = {
    "ppo": (
        Source(
            TIANSHOU, "v3", 10, True,
            (3258, 1079), (5784, 1244), (2609, 701), (3589, 757), (66.7, 99), HIGHEST,
        ),
        Source("Tianshou, newer", "v4", 5, True, 984, note="interquartile mean"),
        Source("PPO paper", "v1", 3, False, None, 1800, 2330, 3460, 108),
        Source(TD3_PAPER, "v1", 10, False, 1083, 1795, 2165, 3318),
        Source("CleanRL", "v4", 3, True, None, (1443, 46), (2383, 272), (2288, 572), note=TRAINING),
        Source(
            "RL Zoo", "v3", 1, True, (1327, 452), (5819, 664), (2410, 10), (3479, 822), (282, 10),
            note="deviations over episodes of one run; Swimmer with gamma 0.9999",
        ),
        Source("OpenAI Baselines", "v1", None, False, None, 1700, 2400, 3510, 111),
        Source("ikostrikov", "", None, False, None, 3120, 2300, 4000),
        Source(SPINNING_UP, "v3", 10, False, 650, 1670, 1850, 1230, 120),
        Source("FlashSAC repository", "v4", 5, True, (1033, 95), (3517, 1046), (3392, 454), (1621, 786)),
    ),
    "trpo": (
        Source(
            TIANSHOU, "v3", 10, True, (2867, 708), (4471, 805), (2046, 1038), (3827, 783), (40.9, 20), HIGHEST
        ),
        Source(
            "RL Zoo", "v3", 1, True, (4982, 664), (1785, 69), (3618, 357), (4933, 1453), (366, 2),
            note="deviations over episodes of one run; Swimmer with gamma 0.9999",
        ),
        Source(TD3_PAPER, "v1", 10, False, -75.9, -15.6, 2471, 2321),
        Source("PPO paper", "v1", 3, False, None, 0, 2100, 1100, 121),
        Source("OpenAI Baselines", "v1", None, False, None, 1350, 2200, 2350, 95),
        Source(SPINNING_UP, "v3", 10, False, 150, 850, 1200, 600, 85),
    ),
    "npg": (
        Source(TIANSHOU, "v3", 10, True, (2358, 518), (3485, 717), (1915, 551), (2503, 963), 31.5, HIGHEST),
        Source("Tianshou, newer", "v4", 5, True, 2191, note="interquartile mean"),
    ),
    "a2c": (
        Source(TIANSHOU, "v3", 10, True, (3485, 433), (1830, 1068), (1253, 458), (1092, 709), 36.6, HIGHEST),
        Source("RL Zoo", "v3", 1, True, -44, 3041, 733, 582, 201),
        Source("PPO paper", "v1", 3, False, None, 1000, 900, 850, 31),
    ),
    "ddpg": (
        Source(TIANSHOU, "v3", 10, True, (990, 4), (11719, 466), (2197, 972), (1401, 905), (144, 7), HIGHEST),
        Source(
            TD3_PAPER, "v1", 10, False, 1005, 3306, 2020, 1844,
            note="the original DDPG",
        ),
        Source(
            TD3_PAPER, "v1", 10, False, 889, 8577, 1860, 3098,
            note="the authors' own DDPG",
        ),
        Source("CleanRL", "v4", 3, True, None, (10374, 157), (1577, 819), (1240, 390), note=TRAINING),
        Source(SPINNING_UP, "v3", 10, False, 840, 11000, 1800, 1950, 137),
    ),
    "td3": (
        Source(
            TIANSHOU, "v3", 10, True, (5116, 800), (10201, 773), (3472, 117), (3982, 275), (104, 34), HIGHEST
        ),
        Source(TD3_PAPER, "v1", 10, False, (4372, 1000), (9637, 859), (3564, 115), (4683, 540)),
        Source("CleanRL, torch", "v4", 3, True, None, (9583, 126), (3135, 360), (4058, 659), note=TRAINING),
        Source("CleanRL, JAX", "v4", 3, True, None, (9346, 771), (2940, 656), (3686, 141), note=TRAINING),
        Source(
            "RL Zoo", "v3", 1, True, (5813, 590), (9656, 970), (3606, 4), (4718, 46), (359, 1),
            note="deviations over episodes of one run; Swimmer with gamma 0.9999",
        ),
        Source(SPINNING_UP, "v3", 10, False, 3800, 9750, 2860, 4000, 78),
    ),
    "sac": (
        Source(TIANSHOU, "v3", 10, True, (5850, 476), (12139, 1049), (3542, 52), (5007, 252), 44.4, HIGHEST),
        Source("SAC paper", "v1", 5, False, 3720, 10400, 3370, 3740),
        Source("SimbaV2 repository", "v4", 10, True, (5734, 639), (11321, 1051), (2787, 823), (4536, 469)),
        Source("CleanRL", "v2 or v4", 3, True, None, (9635, 1424), (2310, 343), (3591, 911), note=TRAINING),
        Source(
            "RL Zoo", "v3", 1, True, (4616, 1354), (9535, 100), (2326, 1130), (3863, 254), (346, 3),
            note="deviations over episodes of one run; Swimmer with gamma 0.999",
        ),
        Source("rl_games and EnvPool, 32 worlds", "v5", 3, True, (4706, 1379), (11140, 665)),
        Source(SPINNING_UP, "v3", 10, False, 3980, 11520, 3150, 4250, 41.7),
    ),
    "sac_modern": (
        Source(
            "FlashSAC at 200k steps", "v4", 5, True, 5272, 10835, 2061, 5311
        ),
    ),
}  # fmt: skip
"""By algorithm, at 1 million environment steps unless the source says otherwise."""

TARGETS: Mapping[tuple[str, str], float] = {
    ("ppo", "HalfCheetah-v5"): 7000,
    ("ppo", "Hopper-v5"): 2900,
    ("ppo", "Walker2d-v5"): 3900,
    ("ppo", "Ant-v4"): 3250,
    ("ppo", "Swimmer-v5"): 340,
    ("trpo", "HalfCheetah-v5"): 4470,
    ("trpo", "Hopper-v5"): 2050,
    ("trpo", "Walker2d-v5"): 3830,
    ("trpo", "Ant-v4"): 2870,
    ("td3", "HalfCheetah-v5"): 10200,
    ("td3", "Hopper-v5"): 3470,
    ("td3", "Walker2d-v5"): 4680,
    ("td3", "Ant-v4"): 5110,
    ("sac", "HalfCheetah-v5"): 12140,
    ("sac", "Hopper-v5"): 3540,
    ("sac", "Walker2d-v5"): 5010,
    ("sac", "Ant-v4"): 5850,
}
"""Mean over seeds that we want to reach."""

FLOORS: Mapping[tuple[str, str], float] = {("ppo", "Hopper-v5"): 1500, ("ppo", "Walker2d-v5"): 1500}
"""What no seed may fall below."""

FEWEST_SEEDS = 3

RANDOM_AND_TD3: Mapping[str, tuple[float, float]] = {
    "HalfCheetah-v5": (-289.4, 10574),
    "Hopper-v5": (18.8, 3226),
    "Walker2d-v5": (2.8, 3946),
    "Ant-v4": (-70.3, 3942),
}
"""Returns that count as 0 and as 1 in TD3-normalised scores, as in MR.Q, SimbaV2 and FlashSAC."""


def best_published(algorithm: str, task: str) -> tuple[Source, float, float | None] | None:
    """Return the highest published mean over several seeds, its source and deviation; None if none is."""
    found = [
        (source, *figure)
        for source in PUBLISHED.get(algorithm, ())
        if (source.seeds or 0) >= FEWEST_SEEDS and (figure := source.of(task)) is not None
    ]
    return max(found, key=lambda one: one[1], default=None)
