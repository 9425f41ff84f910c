"""The same training in PyTorch: weights after 200 steps, for all that the two share.

`python -m benchmarks.parity`, or `make parity`, prints the largest difference of each optimizer, over all
schedules and regularizations, and with each normalization. A difference is relative: max |W − W'| / max |W'| of an
array, the largest of all arrays. PyTorch's own clipping by norm divides by ‖G‖ + 10⁻⁶ and its `renorm` by
‖w‖ + 10⁻⁷; here both are written with its arrays, without these.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.optim import lr_scheduler

from benchmarks.report import keep, keeping
from chainrule.engine import (
    ClipSpec,
    Data,
    Epoch,
    OptimizerSpec,
    RegularizationSpec,
    ScheduleSpec,
    TrainingConfig,
    dense,
    initialize,
    train,
)
from chainrule.engine.arrays import FloatArray, generator
from chainrule.engine.normalization import NORMALIZATIONS

STEPS, EPOCHS, SAMPLES, BATCH = 200, 40, 37, 8
"""Five steps an epoch, the last of five samples."""
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
ENLARGED = 10
"""Normalization divides by σ, which enlarges rounding: so many times the tolerance is allowed with it."""
NETWORK = dense(6, (8, "tanh"), (7, "tanh"), (3, "softmax"))
NORMALIZED = {
    kind: replace(
        NETWORK, layers=(*(replace(layer, normalization=kind) for layer in NETWORK.layers[:-1]), NETWORK.layers[-1])
    )
    for kind in NORMALIZATIONS
}

OPTIMIZERS: dict[str, tuple[float, Callable[[OptimizerSpec, Any], Any]]] = {
    "sgd": (0.1, lambda o, p: torch.optim.SGD(p, o.learning_rate)),
    "momentum": (0.02, lambda o, p: torch.optim.SGD(p, o.learning_rate, o.momentum)),
    "nesterov": (0.02, lambda o, p: torch.optim.SGD(p, o.learning_rate, o.momentum, nesterov=True)),
    "rmsprop": (0.003, lambda o, p: torch.optim.RMSprop(p, o.learning_rate, o.rho, o.epsilon)),
    "adagrad": (0.02, lambda o, p: torch.optim.Adagrad(p, o.learning_rate, eps=o.epsilon)),
    "adam": (0.003, lambda o, p: torch.optim.Adam(p, o.learning_rate, (o.beta1, o.beta2), o.epsilon)),
    "adamw": (
        0.003,
        lambda o, p: torch.optim.AdamW(p, o.learning_rate, (o.beta1, o.beta2), o.epsilon, o.weight_decay),
    ),
}
"""A learning rate, and the same optimizer there."""

SCHEDULES: dict[str, tuple[ScheduleSpec, Callable[[Any], list[Any]]]] = {
    "constant": (ScheduleSpec(), lambda o: []),
    "step": (
        ScheduleSpec("step", every=15, factor=0.3),
        lambda o: [lr_scheduler.StepLR(o, 15, 0.3)],
    ),
    "exponential": (
        ScheduleSpec("exponential", factor=0.97),
        lambda o: [lr_scheduler.ExponentialLR(o, 0.97)],
    ),
    "cosine": (
        ScheduleSpec("cosine", minimum=0.001),
        lambda o: [lr_scheduler.CosineAnnealingLR(o, EPOCHS, 0.001)],
    ),
    "exponential, warmed up": (
        ScheduleSpec("exponential", factor=0.97, warmup_epochs=5),
        lambda o: [lr_scheduler.LinearLR(o, 1 / 5, 1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.97)],
    ),
}
"""Each, and the same there, stepped once an epoch."""

REGULARIZATIONS: dict[str, tuple[RegularizationSpec, ClipSpec | None]] = {
    "nothing": (RegularizationSpec(), None),
    "l1": (RegularizationSpec(l1=0.003), None),
    "l2": (RegularizationSpec(l2=0.01), None),
    "max-norm": (RegularizationSpec(max_norm=1.1), None),
    "clip by norm": (RegularizationSpec(), ClipSpec(norm=0.3)),
    "clip by value": (RegularizationSpec(), ClipSpec(value=0.03)),
    "all": (RegularizationSpec(0.003, 0.01, 1.1), ClipSpec(norm=0.3)),
}


def main() -> None:
    """Print and keep the table; end in failure if anything is beyond its tolerance."""
    lines = [
        f"Weights after {STEPS} steps against PyTorch {torch.__version__}: the largest relative difference over "
        f"{len(SCHEDULES)} schedules ({', '.join(SCHEDULES)}) × {len(REGULARIZATIONS)} regularizations "
        f"({', '.join(REGULARIZATIONS)}), and {len(NORMALIZED)} normalizations ({', '.join(NORMALIZED)}).",
        "",
        f"| optimizer | {' | '.join(TOLERANCE)} | {' | '.join(f'{dtype}, normalized' for dtype in TOLERANCE)} |",
        "|---|--:|--:|--:|--:|",
    ]
    beyond = []
    for optimizer in OPTIMIZERS:
        found = {dtype: dict(differences(optimizer, dtype)) for dtype in TOLERANCE}
        cells = [_largest(of, normalized) for normalized in (False, True) for of in found.values()]
        lines.append(f"| {optimizer} | {' | '.join(cells)} |")
        beyond += [
            f"{optimizer}, {dtype}, {name}: {difference:.1e}"
            for dtype, of in found.items()
            for name, difference in of.items()
            if not difference <= allowed(name, dtype)
        ]
    print("\n".join(lines))
    if output := keeping(__doc__):
        keep("The same weights as PyTorch", "\n".join(lines), output)
    if beyond:
        raise SystemExit("beyond the tolerance: " + "; ".join(beyond))


def allowed(name: str, dtype: str) -> float:
    """Tell how far weights may be apart, by what `differences` calls a training."""
    return TOLERANCE[dtype] * (ENLARGED if _normalizes(name) else 1)


def _normalizes(name: str) -> bool:
    return name.endswith("normalization")


def _largest(found: Mapping[str, float], normalized: bool) -> str:
    worst = max((name for name in found if _normalizes(name) is normalized), key=lambda name: found[name])
    return f"{found[worst]:.1e} ({worst.removesuffix(' normalization')})"


def differences(optimizer: str, dtype: str) -> Iterator[tuple[str, float]]:
    """Train with each schedule and regularization, and each normalization; give how far the weights are apart."""
    torch.set_num_threads(1)  # with more, threads would wait for each other over arrays this small
    for schedule in SCHEDULES:
        for regularization in REGULARIZATIONS:
            yield f"{schedule}; {regularization}", _difference(_config(optimizer, dtype, schedule, regularization))
    for kind, network in NORMALIZED.items():
        config = replace(_config(optimizer, dtype, "constant", "nothing"), network=network)
        yield f"{kind} normalization", _difference(config)


def _config(optimizer: str, dtype: str, schedule: str, regularization: str) -> TrainingConfig:
    penalties, clip = REGULARIZATIONS[regularization]
    return TrainingConfig(
        NETWORK,
        optimizer=OptimizerSpec(optimizer, OPTIMIZERS[optimizer][0]),
        schedule=SCHEDULES[schedule][0],
        regularization=penalties,
        clip=clip,
        epochs=EPOCHS,
        batch_size=BATCH,
        seed=3,
        dtype=dtype,
        gradients_every=None,
    )


def _data() -> Data:
    rng = generator(0, "parity")
    return Data(rng.normal(size=(SAMPLES, 6)), labels=rng.integers(3, size=SAMPLES), classes=("a", "b", "c"))


def _difference(config: TrainingConfig) -> float:
    data = _data()
    *_, last = train(config, data)
    assert isinstance(last, Epoch)
    theirs = _torch(config, data)
    return max(
        float(np.max(np.abs(W - theirs[name])) / (np.max(np.abs(W)) or 1)) for name, W in last.network.named().items()
    )


def _torch(config: TrainingConfig, data: Data) -> dict[str, FloatArray]:
    """Train the same network on the same batches, and give its weights by our names."""
    P = {name: torch.tensor(a) for name, a in initialize(config.network, config.seed, config.dtype).named().items()}
    for name, tensor in P.items():
        # What batch normalization takes away again has a gradient of rounding alone, which optimizers enlarge.
        taken_away = name[0] == "b" and f"running_mean{name[1:]}" in P
        tensor.requires_grad = not (taken_away or name.startswith("running"))
    trained = [tensor for tensor in P.values() if tensor.requires_grad]
    X, y = torch.tensor(data.X.astype(config.dtype)), torch.tensor(data.labels)
    name = config.optimizer.name
    optimizer = OPTIMIZERS[name][1](config.optimizer, trained)
    schedule = next(make for spec, make in SCHEDULES.values() if spec == config.schedule)(optimizer)
    W = [P[name] for name in P if name.startswith("W")]
    l1, l2, longest = config.regularization.l1, config.regularization.l2, config.regularization.max_norm
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.tensor(generator(config.seed, "shuffle", epoch).permutation(SAMPLES)).split(BATCH):
            optimizer.zero_grad()
            A = X[rows]
            for number in range(1, len(W)):
                A = torch.tanh(_normalized(torch.nn.functional.linear(A, P[f"W{number}"], P[f"b{number}"]), P, number))
            Z = torch.nn.functional.linear(A, P[f"W{len(W)}"], P[f"b{len(W)}"])
            cost = torch.nn.functional.cross_entropy(Z, y[rows])
            cost = cost + l1 * sum(w.abs().sum() for w in W) + l2 / 2 * sum((w**2).sum() for w in W)
            cost.backward()
            _clip(config.clip, trained)
            optimizer.step()
            if longest is not None:
                with torch.no_grad():
                    for w in W:
                        w *= (longest / w.norm(dim=1, keepdim=True)).clamp(max=1)
        for scheduler in schedule:
            scheduler.step()
    return {name: tensor.detach().numpy() for name, tensor in P.items()}


def _normalized(Z: Any, P: dict[str, Any], number: int) -> Any:
    if f"gamma{number}" not in P:
        return Z
    gamma, beta = P[f"gamma{number}"], P[f"beta{number}"]
    if f"running_mean{number}" not in P:
        return torch.nn.functional.layer_norm(Z, Z.shape[1:], gamma, beta)
    running = P[f"running_mean{number}"], P[f"running_var{number}"]
    return torch.nn.functional.batch_norm(Z, *running, gamma, beta, training=True)


def _clip(clip: ClipSpec | None, parameters: list[Any]) -> None:
    if clip is None:
        return
    if clip.value is not None:
        torch.nn.utils.clip_grad_value_(parameters, clip.value)
        return
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    if norm > clip.norm:
        for p in parameters:
            p.grad *= clip.norm / norm


if __name__ == "__main__":
    main()
