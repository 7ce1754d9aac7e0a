"""A small made-up run with known answers: stand, walk forward, the cable pulled, plugged in, re-armed.

One tick is 20 ms, ticks begin at 100 s. The body is 0.02 m/s too slow and turns at 0.1 rad/s
unasked; each foot's swings peak at 30 mm.
"""

from __future__ import annotations

import numpy as np

from robotrl.bench.flight import Event, Flight, Truth

START_S = 100.0
WALK_S, PULL_S, PLUG_S, REARM_S, END_S = 102.0, 106.0, 108.0, 109.0, 110.0
SPEED_M_S = 0.3
JOINTS = tuple(f"{leg}_{part}" for leg in ("FL", "FR", "RL", "RR") for part in ("abduction", "hip", "knee"))

EVENTS = (
    Event(PULL_S, "unplug legs"),
    Event(PULL_S + 0.100, "watchdog 11"),
    Event(PULL_S + 0.110, "watchdog 12"),
    Event(PLUG_S, "plug legs"),
    Event(REARM_S, "rearm"),
)


def flight() -> Flight:
    """500 ticks; from the first tick after the pull nothing is measured, from the second the gate holds."""
    stamp = START_S + 0.02 * np.arange(500, dtype=np.float64)
    count = stamp.size
    walking = (stamp >= WALK_S) & (stamp < PULL_S + 0.039)
    missed, held = stamp >= PULL_S + 0.019, stamp >= PULL_S + 0.039
    command = np.zeros((count, 3))
    command[walking, 0] = SPEED_M_S
    position = np.zeros((count, len(JOINTS)))
    return Flight(
        joint_names=JOINTS,
        period_s=0.02,
        stamp_s=stamp,
        joint_pos_rad=position,
        joint_target_rad=position + 0.01,
        joint_age_s=np.where(missed, stamp - PULL_S, 0.002),
        velocity_command=command,
        mode=tuple(np.where(held, "HOLD", np.where(walking, "POLICY", "STAND")).tolist()),
        level=tuple(np.where(held, "HOLD", "NONE").tolist()),
        causes=tuple(("limits.joint_stale_s",) if h else () for h in held),
        work_s=np.full(count, 0.006),
        late_s=np.where(np.arange(count) == 7, 0.015, 0.0),
        events=(),
    )


def truth() -> Truth:
    """1000 samples at 100 Hz; joint 3 moves 0.002 rad after plugging in and 1 rad after re-arming."""
    stamp = START_S + 0.01 * np.arange(1000, dtype=np.float64)
    count = stamp.size
    walking = (stamp >= WALK_S) & (stamp < PULL_S + 0.039)
    linear, angular = np.zeros((count, 3)), np.zeros((count, 3))
    linear[walking, 0] = SPEED_M_S - 0.02
    angular[walking, 2] = 0.1
    qpos = np.zeros((count, 7 + len(JOINTS)))
    qpos[:, 3] = 1.0
    qpos[:, 0] = np.cumsum(linear[:, 0]) * 0.01
    qpos[:, 2] = 0.17
    qpos[stamp >= PLUG_S + 0.5, 7 + 3] = 0.002
    qpos[stamp >= REARM_S, 7 + 3] = 1.0
    phase = np.stack([2 * np.pi * 2.0 * stamp + offset for offset in (0, np.pi, np.pi, 0)], axis=1)
    height = np.where(walking[:, None], 0.030 * np.sin(phase).clip(0), 0.0)
    return Truth(
        stamp_s=stamp,
        qpos=qpos,
        base_lin_vel_b=linear,
        base_ang_vel_b=angular,
        foot_height_m=height,
        foot_touch_n=np.where(height > 0, 0.0, 5.0),
        knee_touch_n=np.zeros((count, 4)),
        trunk_touch_n=np.zeros((count, 1)),
        joint_torque_nm=np.zeros((count, len(JOINTS))),
    )
