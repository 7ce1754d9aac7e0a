"""The page: self-contained, complete, and honest where something is missing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from robotrl.bench.facts import facts_of
from robotrl.bench.folder import Run
from robotrl.bench.report import write_report
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from tests.bench.recorded import EVENTS, flight, truth

METRICS = tuple(
    {"seconds": 0.4 * i, "steps": 12288 * i, "step_reward": 0.01 * i, "episode_length_s": 1.0 * i}
    for i in range(1, 40)
)


def _run() -> Run:
    robot = load_robot(find_shipped("hardware", "quad12"))
    return Run(flight(), robot, truth(), METRICS, EVENTS, (("policy", "<made up> & small"),))


def _page(run: Run, folder: Path) -> str:
    write_report(run, facts_of(run), folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def no_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask mujoco for an OpenGL library that does not exist."""
    monkeypatch.setenv("MUJOCO_GL", "no-such-library")


@pytest.mark.usefixtures("no_opengl")
def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    page = _page(_run(), tmp_path)
    addresses = re.findall(r'(?:src|href)="([^"#]+)', page) + re.findall(r"url\(([^)#]+)\)", page)
    assert [address for address in addresses if not address.startswith("data:")] == []
    assert "<script" not in page


@pytest.mark.usefixtures("no_opengl")
def test_every_section_is_there_and_without_opengl_the_page_says_so(tmp_path: Path) -> None:
    page = _page(_run(), tmp_path)
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "The gait",
        "Commanded and true velocity",
        "The gate",
        "The pulled cable",
        "Feet",
        "Joints",
        "Time of one tick",
        "Learning",
        "Where it comes from",
    ]
    assert "no OpenGL library works here" in page
    assert "&lt;made up&gt; &amp; small" in page


@pytest.mark.usefixtures("no_opengl")
def test_a_recording_alone_makes_a_shorter_page(tmp_path: Path) -> None:
    alone = dataclasses.replace(_run(), truth=None, training=(), events=())
    page = _page(alone, tmp_path)
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "The gate",
        "Joints",
        "Time of one tick",
        "Where it comes from",
    ]
    assert "velocity error" not in page
