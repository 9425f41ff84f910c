"""What can be wrong with a network, its data or its training; each error says where and what to do.

EngineError
├── ConfigError         a value that makes no sense
├── UnknownNameError    a name nobody knows; lists those there are
├── ShapeError          arrays that do not fit together
└── DivergedError       a number that is no longer finite
"""

from collections.abc import Iterable


class EngineError(ValueError):
    """A refusal; `field` is the path of the wrong value in the configuration, "" if it has none."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class ConfigError(EngineError):
    """A value of the configuration makes no sense."""


class UnknownNameError(EngineError):
    """A name is not among those known."""

    def __init__(self, kind: str, name: object, known: Iterable[str], field: str = "") -> None:
        super().__init__(f"Unknown {kind} {name!r}; known: {', '.join(known)}.", field)


class ShapeError(EngineError):
    """Arrays do not fit together."""


class DivergedError(EngineError):
    """A cost, a parameter or a gradient is not finite any more."""

    def __init__(self, epoch: int) -> None:
        super().__init__(
            f"The cost, a parameter or a gradient became infinite or NaN in epoch {epoch}; "
            "a smaller learning rate or scaled inputs may help."
        )
        self.epoch = epoch
