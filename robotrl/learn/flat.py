"""Parameters as one vector: averaging over processes, clipping and optimising are one operation each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


class Flat:
    """Makes parameters, and their gradients, views of one vector each.

    Attributes:
        parameters: the parameters.
        vector: all of them, one after the other.
        gradient: their gradients.
        shared: `gradient` with one number of room behind it, to be averaged along with it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.vector = torch.cat([p.detach().flatten() for p in self.parameters])
        self.shared = torch.zeros(len(self.vector) + 1, dtype=self.vector.dtype, device=self.vector.device)
        self.gradient = self.shared[:-1]
        sizes = [p.numel() for p in self.parameters]
        views = torch.split(self.vector, sizes), torch.split(self.gradient, sizes)
        for parameter, value, gradient in zip(self.parameters, *views, strict=True):
            parameter.data = value.view_as(parameter)
            parameter.grad = gradient.view_as(parameter)


def clip_norm_(limit: float, *gradients: Tensor) -> None:
    """Shorten a gradient, of one or several parts, to the length `limit`, in place."""
    norm = gradients[0].norm() if len(gradients) == 1 else torch.stack([g.norm() for g in gradients]).norm()
    factor = (limit / (norm + 1e-6)).clamp_max(1.0)
    for gradient in gradients:
        gradient.mul_(factor)


class Adam:
    """Adam on flat parameters (Kingma & Ba 2015); its learning rate is set from outside.

    Attributes:
        flat: what it moves, by `flat.gradient`.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, eps: float = 1e-5, whole: bool = True
    ) -> None:
        """Start without momentum.

        Args:
            parameters: what is optimised; they become views of one vector.
            lr: learning rate.
            eps: added to the root of the second moment.
            whole: treat all parameters as one tensor, which is quicker and rounds differently.
        """
        self.flat = Flat(parameters)
        self._moved = [nn.Parameter(self.flat.vector)] if whole else self.flat.parameters
        if whole:
            self._moved[0].grad = self.flat.gradient
        self._optimizer = torch.optim.Adam(self._moved, lr=lr, eps=eps, fused=True)
        self._rates: Tensor | None = None

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @lr.setter
    def lr(self, lr: float) -> None:
        self._optimizer.param_groups[0]["lr"] = lr

    def scale_rates(self, factor: Callable[[nn.Parameter], float]) -> None:
        """Give each parameter a learning rate of its own, `factor` times the common one."""
        rates = [torch.full_like(p, factor(p)).flatten() for p in self.flat.parameters]
        self._rates = torch.cat(rates).detach()

    def differentiate(self, loss: Tensor) -> None:
        """Replace the gradient by that of a loss."""
        self.flat.gradient.zero_()
        loss.backward(inputs=self.flat.parameters)  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """Move by the gradient."""
        before = None if self._rates is None else self.flat.vector.clone()
        state = [self._optimizer.state[p] for p in self._moved]
        if state[0]:
            self._step(*([part[name] for part in state] for name in ("exp_avg", "exp_avg_sq", "step")))
        else:
            self._optimizer.step()  # makes the moments
        if before is not None and self._rates is not None:  # a step is proportional to its rate
            self.flat.vector.copy_(before.lerp(self.flat.vector, self._rates))

    @torch.no_grad()
    def _step(self, first: list[Tensor], second: list[Tensor], steps: list[Tensor]) -> None:
        """Do what the optimiser's `step` does, which takes twice as long to find out what that is."""
        group = self._optimizer.param_groups[0]
        moved: list[Tensor] = list(self._moved)
        gradients = [p.grad for p in moved if p.grad is not None]
        options = {name: group[name] for name in ("lr", "eps", "weight_decay", "amsgrad", "maximize")}
        beta1, beta2 = group["betas"]
        adam(moved, gradients, first, second, [], steps, fused=True, beta1=beta1, beta2=beta2, **options)

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter, and the learning rate."""
        moments = enumerate(self._optimizer.state[p] for p in self._moved)
        tensors = {f"{i}.{name}": value for i, parts in moments for name, value in parts.items()}
        return tensors | {"lr": torch.tensor(self.lr, dtype=torch.float64)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.lr = float(tensors["lr"])
        for i, parameter in enumerate(self._moved):
            moments = under(tensors, str(i)).items()
            if moments:
                self._optimizer.state[parameter] = {k: v.to(parameter.device, copy=True) for k, v in moments}


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return those whose names start with `prefix.`, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}
