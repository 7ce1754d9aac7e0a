"""Laws of a scan: every servo at its own speed, nothing that is none, and nothing written."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from robotrl.drivers.models import MODELS
from robotrl.drivers.scan import BAUD_RATES, Heard, scan
from robotrl.drivers.series import SERIES
from robotrl.errors import PortError
from robotrl.spec.buses import ServoProtocol
from tests.drivers.workbench import PROTOCOLS, Workbench

EACH = pytest.mark.parametrize("protocol", PROTOCOLS)


def heard(bench: Workbench, *rates: int) -> list[Heard]:
    return list(scan("bench", bench.open, [bench.line.protocol], rates))


@EACH
def test_every_servo_is_found_at_its_own_speed(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    service = bench.line.series.service
    bench.servo(12)[service.baud_rate] = service.baud_codes[115200]
    bench.servo(13)[service.id] = 0
    found = [servo for each in heard(bench) for servo in each.servos]
    assert sorted((servo.id, servo.baud_bd) for servo in found) == [(0, 1000000), (11, 1000000), (12, 115200)]
    firmware = {"dynamixel2": "45", "feetech_sts": "3.6", "feetech_scs": "0.0"}[protocol]
    for servo in found:
        assert servo.model == MODELS[servo.model_number].model
        assert (servo.firmware, servo.protocol) == (firmware, protocol)
    assert bench.sent_writes() == 0


@EACH
def test_every_speed_is_tried_once(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    assert [each.baud_bd for each in heard(bench)] == list(BAUD_RATES[protocol]) == bench.opened
    assert bench.port.closed


def test_every_speed_that_servos_can_be_set_to_is_tried() -> None:
    for protocol in PROTOCOLS:
        assert set(SERIES[protocol].service.baud_codes) <= set(BAUD_RATES[protocol])
    assert BAUD_RATES["feetech_scs"] == BAUD_RATES["feetech_sts"]
    assert set(BAUD_RATES["feetech_sts"]) >= {76800, 57600, 38400}
    assert set(BAUD_RATES["dynamixel2"]) == set(SERIES["dynamixel2"].service.baud_codes)


@EACH
def test_the_highest_id_is_found(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    highest = bench.line.series.service.id.maximum
    bench.servo(13)[bench.line.series.service.id] = highest
    (only,) = heard(bench, 1000000)
    assert only.servos[-1].id == highest


@EACH
def test_every_answer_is_waited_for_as_long_as_an_adapter_may_hold_it_back(
    protocol: ServoProtocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Workbench(protocol)
    waits: list[float] = []
    whole, now_s = bench.port.read, time.monotonic()
    monkeypatch.setattr("robotrl.drivers.scan.time", SimpleNamespace(monotonic=lambda: now_s))

    def read(deadline_s: float) -> bytes:
        waits.append(deadline_s - now_s)
        return whole(deadline_s)

    bench.port.read = read  # type: ignore[method-assign]
    bench.port.drain = lambda: whole(0.0)  # type: ignore[method-assign]
    list(scan("bench", bench.open, [protocol], [1000000], held_back_s=10.0))
    of_pings = [wait for wait in waits if wait > 5.0]
    assert len(of_pings) >= (2 if protocol == "dynamixel2" else 254)
    assert min(of_pings) > (10.7 if protocol == "dynamixel2" else 10.0)


def test_sts_and_scs_servos_are_told_apart_by_their_model_number() -> None:
    bench = Workbench("feetech_scs")
    (only,) = scan("bench", bench.open, ["feetech_sts"], [1000000])
    assert [(s.model, s.protocol) for s in only.servos] == [("SCS0009", "feetech_scs")] * 3


@EACH
def test_an_echo_is_no_servo_and_nothing_stray(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    bench.port.echo = True
    (only,) = heard(bench, 1000000)
    assert [servo.id for servo in only.servos] == [11, 12, 13]
    assert only.stray_bytes == 0


@EACH
def test_two_servos_on_one_id_show_as_stray_bytes(protocol: ServoProtocol) -> None:
    """They talk at once, so that no answer comes through whole."""
    bench = Workbench(protocol)
    bench.port.servos.pop(12)
    bench.port.servos.pop(13)
    damaged = bench.port._answer

    def collide(packet: object) -> bytes:
        return bytes(byte ^ 0x14 if at == 3 else byte for at, byte in enumerate(damaged(packet)))  # type: ignore[arg-type]

    bench.port._answer = collide  # type: ignore[method-assign]
    (only,) = heard(bench, 1000000)
    assert only.servos == ()
    assert only.stray_bytes > 0


@EACH
def test_an_unknown_model_is_shown_by_its_number(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    bench.servo(12)[MODELS[bench.find().table.model_number].named("Model Number")] = 4242
    (only,) = heard(bench, 1000000)
    assert [(s.id, s.model) for s in only.servos if not s.model] == [(12, "")]


def test_a_speed_that_the_adapter_lacks_is_told_and_the_others_are_tried() -> None:
    bench = Workbench("dynamixel2")
    bench.refused = {4500000}
    problems = {each.baud_bd: each.problem for each in heard(bench)}
    assert problems.pop(4500000) == "port bench does not work at 4500000 baud"
    assert set(problems.values()) == {""}


def test_a_port_that_does_not_open_at_all_is_an_error() -> None:
    bench = Workbench("dynamixel2")
    bench.refused = set(BAUD_RATES["dynamixel2"])
    with pytest.raises(PortError):
        heard(bench)
