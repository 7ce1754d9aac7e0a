"""A film has the length, size and contents asked for, or one sentence says what is missing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from robotrl.bench.film import every_nth
from robotrl.bench.opengl import drawing_environment
from robotrl.cli.main import FINE, WRONG_USE, main
from robotrl.errors import BadInputError, ScreenError

WIDTH, HEIGHT, SECONDS = 320, 180, 1.2


def _opengl_works() -> bool:
    try:
        drawing_environment()
    except ScreenError:
        return False
    return True


def test_a_film_shows_the_robot_walking_in_the_middle_of_a_bright_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "walk.mp4"
    arguments = f"video quad12_walk -o F --seconds {SECONDS} --fps 12.5 --size {WIDTH} {HEIGHT} --plain"
    code = main([str(file) if word == "F" else word for word in arguments.split()])
    if not _opengl_works():
        assert code == WRONG_USE
        _check_that_it_says_what_to_install(capsys.readouterr().err, file)
        return
    assert code == FINE
    assert "1.2 s, restarts: 0" in capsys.readouterr().out
    pictures, seconds = _read(file)
    assert seconds == pytest.approx(SECONDS)
    assert pictures.shape == (15, HEIGHT, WIDTH, 3)
    assert pictures[:, -20:].mean() > 100  # the floor is lit
    for picture in pictures:
        red, green, blue = picture.astype(float).transpose(2, 0, 1)
        rows, columns = np.nonzero((red > 1.5 * blue) & (red > 1.2 * green))  # the orange trunk
        assert len(rows) > 100
        assert abs(columns.mean() - WIDTH / 2) < 0.1 * WIDTH
        assert abs(rows.mean() - HEIGHT / 2) < 0.2 * HEIGHT
    changes = np.abs(np.diff(pictures.astype(float), axis=0)).mean((1, 2, 3))
    assert (changes[8:] > 0.2).all()  # it has set off after half a second


@pytest.mark.parametrize("library", ["no-such-library"])
def test_without_opengl_video_says_what_to_install(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", library)
    file = tmp_path / "walk.mp4"
    assert main(["video", "quad12_walk", "-o", str(file), "--seconds", "0.1"]) == WRONG_USE
    error = capsys.readouterr().err
    _check_that_it_says_what_to_install(error, file)
    assert library in error


def _check_that_it_says_what_to_install(error: str, file: Path) -> None:
    assert error.count("\n") == 1
    assert "no OpenGL library works here" in error
    assert "apt install" in error
    assert not file.exists()


@pytest.mark.parametrize(
    ("frame_s", "fps", "nth"),
    [
        (0.02, 0, 2),
        (0.02, 50, 1),
        (0.02, 25, 2),
        (0.05, 0, 1),
        (0.008, 0, 5),
        (0.01, 33.333, 3),
        (0.04, 0, 1),
    ],
)
def test_pictures_stand_for_whole_control_periods(frame_s: float, fps: float, nth: int) -> None:
    assert every_nth(frame_s, fps) == nth


@pytest.mark.parametrize("fps", [30.0, 60.0, 100.0])
def test_a_rate_that_would_bend_time_is_refused_with_those_that_do_not(fps: float) -> None:
    with pytest.raises(BadInputError, match=r"allowed: 50, 25, 16\.67, 12\.5, 10"):
        every_nth(0.02, fps)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("quad12_walk -o F/x.gif", ("--out", "x.gif", ".mp4")),
        ("quad12_walk -o F/none/x.mp4", ("--out", "none", "no such folder")),
        ("quad12_walk -o F/x.mp4 --size 321 180", ("--size", "321", "even")),
        ("quad12_walk -o F/x.mp4 --seconds 0", ("--seconds", "0")),
        ("quad12_walk -o F/x.mp4 --seed -1", ("--seed: is no seed, got -1", "allowed: 0 to")),
        ("quad12_walk_ppo -o F/x.mp4 --actions trained", ("--actions", "trained", "zero, random")),
        ("no_such_thing -o F/x.mp4", ("no_such_thing", "run's folder", "quad12_walk")),
        ("F/none.npz -o F/x.mp4", ("none.npz",)),
        ("quad12_walk -o F/x.mp4 --script F/none.toml", ("none.toml",)),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    arguments: str, names: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["video", *(word.replace("F/", f"{tmp_path}/") for word in arguments.split())])
    error = capsys.readouterr().err
    assert code == WRONG_USE
    assert error.count("\n") == 1
    assert all(name in error for name in names), error
    assert list(tmp_path.iterdir()) == []


def _read(file: Path) -> tuple[NDArray[np.uint8], float]:
    """All pictures (F, height, width, 3), and the film's length in seconds."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        seconds = float(stream.duration * stream.time_base)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    return np.array(pictures), seconds
