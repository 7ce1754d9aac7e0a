"""Laws of looking after one servo: nothing moves, nothing is written that was not asked for or not kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from robotrl.drivers import sts
from robotrl.drivers import xseries as x
from robotrl.drivers.models import MODELS
from robotrl.drivers.servo import Line, Servo, counts_of, whole
from robotrl.errors import BadInputError, DeviceError
from robotrl.spec.buses import ServoProtocol
from tests.drivers.fake_feetech import FakeFeetechServo
from tests.drivers.workbench import PROTOCOLS, Workbench

EACH = pytest.mark.parametrize("protocol", PROTOCOLS)


@EACH
def test_a_servo_is_found_with_model_and_firmware(protocol: ServoProtocol) -> None:
    servo = Workbench(protocol).find(12)
    assert servo.table in MODELS.values()
    assert servo.firmware == {"dynamixel2": "45", "feetech_sts": "3.6", "feetech_scs": "0.0"}[protocol]


@EACH
def test_a_silent_servo_and_an_unknown_model_are_errors(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    with pytest.raises(DeviceError, match="servo 40 does not answer on bench at 1000000 baud"):
        bench.find(40)
    bench.servo(11)[bench.find().table.named("Model Number")] = 4242
    with pytest.raises(DeviceError, match="model number 4242"):
        bench.find()


@EACH
def test_every_writable_register_is_written_and_read_back(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    servo = bench.find()
    service, torque = bench.line.series.service, bench.line.series.torque
    skipped = {service.id.address, service.baud_rate.address, torque.address}
    written = 0
    for register in servo.table.registers.values():
        if register.access.value == "RW" and register.address not in skipped:
            before = servo.read(register)
            for value in (register.minimum, register.maximum, before):
                assert servo.write(register, value) == value == bench.servo(11)[register]
                written += 1
    assert written > 40


@EACH
def test_read_only_registers_are_refused_before_anything_is_sent(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    servo = bench.find()
    for register in servo.table.registers.values():
        if register.access.value == "R":
            with pytest.raises(BadInputError, match=f"{register.name}.*read only"):
                servo.write(register, 0)
    assert bench.sent_writes() == 0


@EACH
def test_values_beyond_either_end_are_refused_before_anything_is_sent(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    servo = bench.find()
    for register in servo.table.registers.values():
        if register.access.value == "RW":
            for value in (register.minimum - 1, register.maximum + 1):
                with pytest.raises(BadInputError):
                    servo.write(register, value)
    assert bench.sent_writes() == 0


@EACH
def test_torque_goes_off_but_never_on(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    servo, torque = bench.find(), bench.line.series.torque
    for value in range(1, servo.table[torque].maximum + 1):
        with pytest.raises(BadInputError, match="run --arm"):
            servo.write(torque, value)
    assert bench.sent_writes() == 0
    bench.servo(11)[torque] = 1
    servo.write(torque, 0)
    assert bench.servo(11)[torque] == 0


@EACH
def test_under_torque_nothing_is_written_but_torque_off(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    servo, series = bench.find(), bench.line.series
    bench.servo(11)[series.torque] = 1
    refused: tuple[Callable[[], object], ...] = (
        lambda: servo.write(series.max_position, 700),
        lambda: servo.write(series.goal, 600),
        lambda: servo.set_id(40),
        lambda: servo.set_baud(115200, bench.open),
        servo.reboot,
    )
    for act in refused:
        with pytest.raises(DeviceError, match="torque"):
            act()
    assert bench.sent_writes() == 0
    servo.write(series.torque, 0)
    assert servo.write(series.goal, 600) == 600


@EACH
def test_id_and_baud_rate_have_commands_of_their_own(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    servo, service = bench.find(), bench.line.series.service
    with pytest.raises(BadInputError, match="set-id"):
        servo.write(service.id, 40)
    with pytest.raises(BadInputError, match="set-baud"):
        servo.write(service.baud_rate, 1)
    assert bench.sent_writes() == 0


@EACH
def test_a_value_that_is_not_kept_is_an_error(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    servo, limit = bench.find(), bench.line.series.max_position
    bench.servo(11).stuck[limit] = 900
    with pytest.raises(DeviceError, match="was written as 800 but reads 900"):
        servo.write(limit, 800)


@pytest.mark.parametrize("protocol", ["feetech_sts", "feetech_scs"])
def test_feetech_eeprom_is_unlocked_for_a_write_and_locked_again(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    servo, limit, lock = bench.find(), bench.line.series.max_position, bench.line.series.service.lock
    assert lock is not None
    servo.write(limit, 800)
    fake = bench.servo(11)
    assert isinstance(fake, FakeFeetechServo)
    assert fake[lock] == 1
    fake.power_cycle()
    assert fake[limit] == 800


@EACH
def test_a_new_id_answers_and_is_kept_without_power(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    moved = bench.find().set_id(40)
    assert (moved.id, bench.find(40).table) == (40, moved.table)
    fake = bench.servo(11)
    if isinstance(fake, FakeFeetechServo):
        assert fake[sts.ID] == 40
        fake.power_cycle()
    assert fake[bench.line.series.service.id] == 40
    with pytest.raises(DeviceError, match="does not answer"):
        bench.find(11)


@EACH
def test_an_id_that_is_taken_or_does_not_exist_is_refused(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    with pytest.raises(DeviceError, match="id 12 is taken"):
        bench.find().set_id(12)
    for id_ in (-1, 254):
        with pytest.raises(BadInputError, match="ID"):
            bench.find().set_id(id_)
    assert bench.find().set_id(11).id == 11
    assert bench.sent_writes() == 0


@EACH
def test_an_id_that_does_not_take_is_an_error(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    bench.servo(11).stuck[bench.line.series.service.id] = 11
    with pytest.raises(DeviceError, match="was given id 40 but does not answer to it"):
        bench.find().set_id(40)


@EACH
def test_a_new_speed_is_verified_there_and_kept_without_power(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    line = bench.find().set_baud(115200, bench.open)
    assert line == Line("bench", protocol, 115200)
    fake = bench.servo(11)
    if isinstance(fake, FakeFeetechServo):
        fake.power_cycle()
    assert Servo.find(bench.open("bench", 115200), line, 11).id == 11
    with pytest.raises(DeviceError, match="does not answer"):
        bench.find(11)


@EACH
def test_a_speed_that_the_model_lacks_is_refused(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    with pytest.raises(BadInputError, match="is no baud rate of"):
        bench.find().set_baud(123456, bench.open)
    assert bench.find().set_baud(1000000, bench.open) == bench.line
    assert bench.sent_writes() == 0


def test_speeds_end_where_the_model_does() -> None:
    """An XL330 has no 4.5 Mbit/s, its sister the XC430 has."""
    bench = Workbench("dynamixel2")
    bench.servo(11)[x.MODEL_NUMBER] = 1200
    with pytest.raises(BadInputError, match="is no baud rate of XL330-M288-T"):
        bench.find().set_baud(4500000, bench.open)
    assert bench.find(12).set_baud(4500000, bench.open).baud_bd == 4500000


@EACH
def test_a_speed_that_does_not_take_is_an_error(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    rate = bench.line.series.service.baud_rate
    bench.servo(11).stuck[rate] = bench.servo(11)[rate]
    with pytest.raises(DeviceError, match="was set to 115200 baud but does not answer there"):
        bench.find().set_baud(115200, bench.open)


def test_a_reboot_forgets_ram() -> None:
    bench = Workbench("dynamixel2")
    servo = bench.find()
    servo.write(x.LED, 1)
    servo.reboot()
    assert servo.read(x.LED) == 0


@pytest.mark.parametrize("protocol", ["feetech_sts", "feetech_scs"])
def test_feetech_servos_are_power_cycled_instead(protocol: ServoProtocol) -> None:
    with pytest.raises(DeviceError, match="cycle their power"):
        Workbench(protocol).find().reboot()


def test_a_servo_told_not_to_acknowledge_can_be_told_to() -> None:
    bench = Workbench("dynamixel2")
    servo = bench.find()
    bench.servo(11)[x.STATUS_RETURN_LEVEL] = 1
    with pytest.raises(DeviceError, match="does not answer a write"):
        servo.write(x.LED, 1)
    assert servo.write(x.STATUS_RETURN_LEVEL, 2) == 2
    assert servo.write(x.LED, 0) == 0


def test_a_refusal_tells_why() -> None:
    bench = Workbench("dynamixel2")
    bench.servo(11)[x.MAX_POSITION_LIMIT] = 3000
    with pytest.raises(DeviceError, match=r"servo 11 refuses Goal Position \(116\) := 3001: data limit"):
        bench.find().write(x.GOAL_POSITION, 3001)


def test_counts_are_whole_numbers_within_the_range() -> None:
    assert whole(x.GOAL_POSITION, 4095.0) == 4095
    for value in (0.5, math.nan, 4096.0, -1.0):
        with pytest.raises(BadInputError):
            whole(x.GOAL_POSITION, value)


@pytest.mark.parametrize(
    "name", ["Goal Position", "goal_position", "goal-position", "GOALPOSITION", " goal position "]
)
def test_registers_are_found_by_name_however_it_is_written(name: str) -> None:
    assert Workbench("dynamixel2").find().table.named(name) is x.GOAL_POSITION


def test_a_misspelt_register_brings_the_nearest() -> None:
    with pytest.raises(BadInputError, match=r"is no register of XC430-W240-T.*Goal Position"):
        Workbench("dynamixel2").find().table.named("goal positoin")


@pytest.mark.parametrize("table", MODELS.values(), ids=lambda table: table.model)
def test_no_two_registers_of_a_model_have_one_name(table: object) -> None:
    registers = table.registers.values()  # type: ignore[attr-defined]
    assert all(table.named(r.name) is r for r in registers)  # type: ignore[attr-defined]


@pytest.mark.parametrize("table", MODELS.values(), ids=lambda table: table.model)
def test_counts_survive_the_way_to_si_units_and_back(table: object) -> None:
    for register in table.registers.values():  # type: ignore[attr-defined]
        for counts in {register.minimum, register.maximum, (register.minimum + register.maximum) // 2}:
            assert counts_of(register, counts * register.unit.scale) == counts


def test_a_value_out_of_range_is_told_in_the_registers_unit() -> None:
    with pytest.raises(
        BadInputError, match=r"got 7\.0; allowed: 0 to 4095 counts, which is 0 to 6\.28165 rad"
    ):
        counts_of(x.GOAL_POSITION, 7.0)
    with pytest.raises(BadInputError, match=r"got 0\.0; allowed: 60 to 160 counts"):
        counts_of(x.MIN_VOLTAGE_LIMIT, 0.0)
    for value in (math.nan, math.inf):
        with pytest.raises(BadInputError, match="is no number"):
            counts_of(x.GOAL_POSITION, value)
