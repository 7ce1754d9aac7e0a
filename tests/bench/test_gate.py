"""`robotrl bench gate`: the same ticks whoever runs them, counted, and a cost that belongs to the gate."""

from __future__ import annotations

import json

import pytest

from robotrl.bench import gate
from robotrl.bench.gate import Chunk, bench_gate, cost_us, every_robot, run_chunk
from robotrl.cli import main as cli
from robotrl.errors import VerificationError


def test_a_chunk_is_drawn_from_its_seed_and_counts_its_ticks() -> None:
    for name in every_robot():
        once, twice, other = (run_chunk(Chunk(name, seed, 120)) for seed in (1, 1, 2))
        assert once == twice != other
        assert sum(once[level] for level in ("NONE", "LIMITING", "HOLD", "DAMP", "LIMP")) == 120


def test_it_counts_every_tick_of_every_robot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "_CHUNK_TICKS", 60)
    monkeypatch.setattr(gate, "_COST_TICKS", 20)
    assert cli.main(["bench", "gate", "--ticks", "400", "--json"]) == cli.FINE
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert (figures["ticks"], figures["violations"]) == (400, 0)
    assert {record["robot"] for record in figures["robots"]} == {*every_robot()}
    assert sum(record["ticks"] for record in figures["robots"]) == 400
    for record in figures["robots"]:
        assert record["passed"] + record["limited"] + record["stopped"] == record["ticks"]
        assert record["causes"] > 0


def test_several_processes_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_CHUNK_TICKS", 40)
    monkeypatch.setattr(gate, "_COST_TICKS", 20)
    alone, together = (bench_gate(200, 7, jobs)["robots"] for jobs in (1, 2))
    assert alone == together


def test_a_violation_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_chunk: Chunk) -> None:
        raise VerificationError("the gate breaks a law")

    monkeypatch.setattr(gate, "run_chunk", breaks)
    with pytest.raises(VerificationError):
        bench_gate(10, 1, 1)


def test_the_cost_is_a_median_for_each_of_two_robots_and_their_ratio() -> None:
    figures = cost_us(40)
    assert figures["guard_ratio"] == pytest.approx(figures["guard_us_30"] / figures["guard_us_12"])
    assert figures["guard_us_12"] > 0
