"""The fault script: read strictly, refused in one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from robotrl.emulator.faults import (
    DuplicateId,
    FaultScript,
    LineFault,
    Noise,
    Overheat,
    Push,
    ServoFault,
    Window,
    WrongBaud,
    load_faults,
)
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
        cut=(LineFault("legs", 1.0, 2.0),),
        noise=(Noise("imu", 0.0, 9.0, drop=0.1),),
        imu_silence=(Window(3.0, 3.5),),
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


EVERY = """
[[eject]]
line = "imu"
from_s = 1.0
until_s = 2.0
[[short]]
line = "legs"
from_s = 1.0
until_s = 2.0
[[noise]]
line = "legs"
from_s = 0
until_s = 9
delay = 0.1
delay_s = 0.003
byte_swap = 0.01
[[servo_silence]]
line = "legs"
id = 11
from_s = 1.0
until_s = 2.0
[[duplicate_id]]
line = "legs"
id = 12
like = 13
from_s = 1.0
until_s = 2.0
[[duplicate_id]]
line = "legs"
id = 12
like = 11
from_s = 2.0
until_s = 3.0
[[wrong_baud]]
line = "legs"
id = 13
baud_bd = 57600
from_s = 1.0
until_s = 2.0
[[brown_out]]
line = "legs"
id = 21
from_s = 1.0
until_s = 2.0
[[overheat]]
line = "legs"
id = 22
temperature_c = 90
from_s = 1.0
until_s = 2.0
[[stuck_encoder]]
line = "legs"
id = 23
from_s = 1.0
until_s = 2.0
[[imu_freeze]]
from_s = 1.0
until_s = 2.0
[[imu_nan]]
from_s = 2.0
until_s = 3.0
[[imu_upside_down]]
from_s = 3.0
until_s = 4.0
"""


def test_every_kind_of_fault_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, EVERY) == FaultScript(
        eject=(LineFault("imu", 1.0, 2.0),),
        short=(LineFault("legs", 1.0, 2.0),),
        noise=(Noise("legs", 0.0, 9.0, delay=0.1, delay_s=0.003, byte_swap=0.01),),
        servo_silence=(ServoFault("legs", 11, 1.0, 2.0),),
        duplicate_id=(DuplicateId("legs", 12, 13, 1.0, 2.0), DuplicateId("legs", 12, 11, 2.0, 3.0)),
        wrong_baud=(WrongBaud("legs", 13, 57600, 1.0, 2.0),),
        brown_out=(ServoFault("legs", 21, 1.0, 2.0),),
        overheat=(Overheat("legs", 22, 90.0, 1.0, 2.0),),
        stuck_encoder=(ServoFault("legs", 23, 1.0, 2.0),),
        imu_freeze=(Window(1.0, 2.0),),
        imu_nan=(Window(2.0, 3.0),),
        imu_upside_down=(Window(3.0, 4.0),),
    )


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('line = "imu"', 'line = "nothing"', "eject[0].line"),
        ("delay_s = 0.003", "", "noise[0].delay_s"),
        ("id = 11", "id = 99", "servo_silence[0].id"),
        ('line = "legs"\nid = 11', 'line = "imu"\nid = 11', "servo_silence[0].line"),
        ("like = 13", "like = 12", "duplicate_id[0].like"),
        ("like = 13", "like = 77", "duplicate_id[0].like"),
        ("like = 11\nfrom_s = 2.0", "like = 11\nfrom_s = 1.5", "duplicate_id[1].from_s"),
        ("57600", "1000000", "wrong_baud[0].baud_bd"),
        ("57600", "500000", "wrong_baud[0].baud_bd"),
        ("id = 21\nfrom_s = 1.0", "id = 21\nfrom_s = 2.0", "brown_out[0].until_s"),
        ("temperature_c = 90", "temperature_c = 900", "overheat[0].temperature_c"),
        ("id = 23", 'id = "23"', "stuck_encoder[0].id"),
        ("[[imu_nan]]\nfrom_s = 2.0", "[[imu_nan]]\nfrom_s = 5.0", "imu_nan[0].until_s"),
    ],
)
def test_what_the_robot_cannot_suffer_is_refused_by_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in EVERY
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, EVERY.replace(old, new, 1))
    assert caught.value.key == key


def test_a_fault_of_the_imu_is_refused_where_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text("[[imu_freeze]]\nfrom_s = 1.0\nuntil_s = 2.0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="imu_freeze"):
        load_faults(file, dataclasses.replace(quad12(), imu=None))
