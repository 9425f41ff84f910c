"""Feed-forward networks in NumPy: the mathematics, and nothing else.

Notation, everywhere in this package. Layers are numbered 1…L, the input is layer 0, a batch has m
samples, and rows are samples.

    W[l]   weights of layer l                      (n_l, n_{l-1})
    b[l]   biases of layer l                       (n_l,)
    Z[l]   pre-activations, A[l-1]·W[l]ᵀ + b[l]    (m, n_l)
    A[l]   activations, g(Z[l]); A[0] = X          (m, n_l)
    N[l]   Z[l] normalized, γ[l] ⊙ Ẑ[l] + β[l]; where a layer does so A[l] = g(N[l])
    E⁽ⁱ⁾   error of sample i
    C      cost, (1/m) Σᵢ E⁽ⁱ⁾
    dX     ∂C/∂X for X = W, b, γ, β; for X = Z, N, A row i is ∂E⁽ⁱ⁾/∂X⁽ⁱ⁾, the sample's own

⊙ multiplies element by element.
"""

from chainrule.engine.activations import ACTIVATIONS, activation
from chainrule.engine.checkpoint import ResumePoint
from chainrule.engine.clipping import ClipSpec
from chainrule.engine.config import TrainingConfig
from chainrule.engine.costs import COSTS, cost, costs_for
from chainrule.engine.data import BUILT_IN, Data, circles, digits, moons, spirals, split_rows, split_size, targets, xor
from chainrule.engine.epoch import Epoch, StepBoundary
from chainrule.engine.errors import ConfigError, DivergedError, EngineError, ShapeError, UnknownNameError
from chainrule.engine.initializers import INITIALIZERS, default_initializer
from chainrule.engine.member import Goal, Trainee, goal
from chainrule.engine.network import (
    LayerSpec,
    Network,
    NetworkSpec,
    backward,
    dense,
    evaluate,
    forward,
    initialize,
    predict,
)
from chainrule.engine.observation import GradientRecord
from chainrule.engine.optimizers import OPTIMIZERS, OptimizerSpec
from chainrule.engine.regularization import RegularizationSpec
from chainrule.engine.rounds import Round
from chainrule.engine.schedules import SCHEDULES, ScheduleSpec
from chainrule.engine.stopping import EarlyStoppingSpec
from chainrule.engine.training import stack_key, train, train_stacked

__all__ = [
    "ACTIVATIONS",
    "BUILT_IN",
    "COSTS",
    "INITIALIZERS",
    "OPTIMIZERS",
    "SCHEDULES",
    "ClipSpec",
    "ConfigError",
    "Data",
    "DivergedError",
    "EarlyStoppingSpec",
    "EngineError",
    "Epoch",
    "Goal",
    "GradientRecord",
    "LayerSpec",
    "Network",
    "NetworkSpec",
    "OptimizerSpec",
    "RegularizationSpec",
    "ResumePoint",
    "Round",
    "ScheduleSpec",
    "ShapeError",
    "StepBoundary",
    "Trainee",
    "TrainingConfig",
    "UnknownNameError",
    "activation",
    "backward",
    "circles",
    "cost",
    "costs_for",
    "default_initializer",
    "dense",
    "digits",
    "evaluate",
    "forward",
    "goal",
    "initialize",
    "moons",
    "predict",
    "spirals",
    "split_rows",
    "split_size",
    "stack_key",
    "targets",
    "train",
    "train_stacked",
    "xor",
]
