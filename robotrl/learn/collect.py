"""What all on-policy learners do in an iteration: collect steps of every world, then update once."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from robotrl.learn.actor_critic import ActorCritic, OnPolicyParams
from robotrl.learn.flat import Adam, under
from robotrl.learn.group import Group
from robotrl.learn.loop import VectorEnv
from robotrl.learn.networks import Actor, Reflection
from robotrl.learn.normalize import RewardScale
from robotrl.learn.rollout import Rollout, Timeouts


class OnPolicy(ABC):
    """An on-policy learner: its actor and critic, and the frame around its `update`."""

    def __init__(
        self,
        params: OnPolicyParams,
        observation: Reflection,
        privileged: Reflection,
        action: Reflection,
        group: Group | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Build an untrained learner.

        Args:
            params: of any on-policy algorithm.
            observation: how the actor's observation is reflected; `Unmirrored` if it is not.
            privileged: how what only the critic sees is reflected.
            action: how actions are reflected.
            group: the processes that train together.
            device: by default torch's.
        """
        self.group = group or Group()
        with torch.device(device or torch.get_default_device()):
            self.model = ActorCritic(params, observation, privileged, action)
            self._reward_scale = RewardScale(params.gamma) if params.scale_reward else None
        self._shape = params.steps, params.gamma, params.gae_lambda
        self._rollout: Rollout | None = None
        self._memory: Tensor | None = None

    @property
    def actor(self) -> Actor:
        """Observation (B, obs) -> mean action (B, n): what is evaluated and exported."""
        return self.model.actor

    @abstractmethod
    def update(self, rollout: Rollout) -> dict[str, float]:
        """Improve actor and critic on one rollout; returns figures."""

    def anneal(self, share: float) -> None:  # noqa: B027 - most have nothing to do
        """Take note of the share of the training budget that is used up, 0 to 1."""

    def iterate(self, env: VectorEnv) -> tuple[int, dict[str, float]]:
        """Collect and update once; returns this process's environment steps and figures."""
        steps = self._shape[0]
        if self._rollout is None:
            with torch.device(env.observation.device):
                widths = env.observation.shape[1], env.privileged.shape[1], self.model.action_size
                self._rollout = Rollout.empty(steps, env.num, *widths)
        memory = self._memory
        self._rollout.memory = self.model.forgotten(env.num) if memory is None else memory
        started = time.perf_counter()
        collect(env, self.model, self._rollout)
        if self._reward_scale is not None:
            scaled = self._reward_scale(self._rollout.reward, self._rollout.ended, self.group)
            self._rollout.reward.copy_(scaled)
        collected = time.perf_counter()
        figures = self.update(self._rollout)
        self.model.merge_statistics(self._rollout, self.group)
        self._memory = self.model.remembered(self._rollout)
        done = time.perf_counter()
        return steps * env.num, figures | {"update_share": (done - collected) / (done - started)}

    def estimate(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Values and advantages, both (T, B)."""
        return self.model.estimate(rollout, *self._shape[1:])

    def _adams(self) -> dict[str, Adam]:
        """Optimisers that a checkpoint holds, by the prefix of their tensors."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines the learner, for a checkpoint."""
        tensors = {name: value.detach() for name, value in self.model.state_dict().items()}
        for name, adam in self._adams().items():
            tensors |= {f"{name}.{key}": value for key, value in adam.state().items()}
        if self._reward_scale is not None:
            tensors |= {f"reward_scale.{name}": value for name, value in self._reward_scale.state().items()}
        if self._memory is not None:
            tensors["memory"] = self._memory
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.model.load_state_dict({name: tensors[name] for name in self.model.state_dict()})
        for name, adam in self._adams().items():
            adam.load_state(under(tensors, name))
        if self._reward_scale is not None:
            self._reward_scale.load_state(under(tensors, "reward_scale"))
        if "memory" in tensors:
            self._memory = tensors["memory"].to(self.model.log_std.device, copy=True)

    def scales(self) -> dict[str, Tensor]:
        """Live statistics of what rewards are divided by, named as `state` does."""
        scale = self._reward_scale.state() if self._reward_scale is not None else {}
        return {f"reward_scale.{name}": value for name, value in scale.items() if name != "running"}

    def begin_anew(self) -> None:
        """Forget what was remembered and earned in episodes that do not go on."""
        self._memory = None
        if self._reward_scale is not None:
            self._reward_scale.begin_anew()


def collect(env: VectorEnv, model: ActorCritic, rollout: Rollout) -> None:
    """Fill a rollout with what the policy does in T steps of every world."""
    late: list[tuple[Tensor, Tensor, Tensor]] = []
    playing = model.playing(rollout.memory)
    for t in range(len(rollout.reward)):
        rollout.observation[t], rollout.privileged[t] = env.observation, env.privileged
        action, mean = model.act(env.observation, playing)
        stepped = env.step(action)
        rollout.action[t], rollout.mean[t] = action, mean
        rollout.reward[t] = stepped.reward
        rollout.ended[t] = (stepped.terminated | stepped.truncated).float()
        if playing is not None:
            playing.forget(stepped.final_ids)
        cut = stepped.truncated[stepped.final_ids]
        if cut.any():
            place = t * env.num + stepped.final_ids[cut]
            late.append((place, stepped.final_observation[cut], stepped.final_privileged[cut]))
    rollout.last = env.observation, env.privileged
    rollout.timeouts = (
        Timeouts(*(torch.cat(parts) for parts in zip(*late, strict=True)))
        if late
        else Timeouts(env.observation.new_zeros(0, dtype=torch.long), *(x[:0] for x in rollout.last))
    )
