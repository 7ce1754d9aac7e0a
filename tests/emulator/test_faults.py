"""The fault script: read strictly, refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from robotrl.emulator.faults import Cut, FaultScript, Noise, Push, Silence, load_faults
from robotrl.errors import ConfigError
from tests.emulator.host import quad12

GOOD = """
[[cut]]
line = "legs"
from_s = 1.0
until_s = 2.0
[[noise]]
line = "imu"
from_s = 0
until_s = 9
drop = 0.1
[[imu_silence]]
from_s = 3.0
until_s = 3.5
[[push]]
at_s = 4.0
velocity_m_s = [0.3, -0.1]
"""


def load(folder: Path, text: str) -> FaultScript:
    file = folder / "faults.toml"
    file.write_text(text, encoding="utf-8")
    return load_faults(file, quad12())


def test_a_script_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == FaultScript(
        cut=(Cut("legs", 1.0, 2.0),),
        noise=(Noise("imu", 0.0, 9.0, drop=0.1),),
        imu_silence=(Silence(3.0, 3.5),),
        push=(Push(4.0, (0.3, -0.1)),),
    )


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("[[cut]]", "[[cuts]]", "cuts"),
        ('line = "legs"', 'line = "arms"', "cut[0].line"),
        ('line = "imu"', 'line = "IMU"', "noise[0].line"),
        ("until_s = 2.0", "until_s = 1.0", "cut[0].until_s"),
        ("until_s = 9", "until_s = -9", "noise[0].until_s"),
        ("until_s = 3.5", "until_s = 2.5", "imu_silence[0].until_s"),
        ("drop = 0.1", "drop = 1.1", "noise[0].drop"),
        ("drop = 0.1", 'drop = "often"', "noise[0].drop"),
        ("at_s = 4.0", "", "push[0].at_s"),
        ("[0.3, -0.1]", "[0.3]", "push[0].velocity_m_s"),
    ],
)
def test_a_wrong_script_is_refused_by_file_and_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert caught.value.key == key
    assert "faults.toml" in str(caught.value)
