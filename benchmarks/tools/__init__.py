"""The tools that are compared, one file each: how a person who knows the tool well would train with it."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from benchmarks.workloads import Weights, Workload


class Training(Protocol):
    """What each file has: a training that can be repeated.

    Making it loads the data in the tool's own form and compiles what there is to compile.
    """

    def __init__(self, workload: Workload) -> None:
        """Load."""

    def restart(self) -> None:
        """Go back to the initial weights; not timed."""

    def train(self) -> None:
        """Take all steps of all epochs, and return when they are done; this is timed."""

    def weights(self) -> Weights | None:
        """Give the weights it came to; None for what trains nothing."""


@dataclass(frozen=True)
class Tool:
    """One row of the tables.

    Attributes:
        title: as the tables call it.
        package: what must be installed.
        stacked: whether it trains all members of a workload as one; the others train one of them.
        follows: whether it takes the batches in the order it is given; those that shuffle for themselves do
            the same work and come to another cost.
        trains: whether there are weights in the end.
        threads: BLAS threads, and cores it may run on.
    """

    title: str
    module: str
    package: str = "numpy"
    stacked: bool = False
    follows: bool = True
    trains: bool = True
    threads: int = 1

    @property
    def installed(self) -> bool:
        """Whether it can run here."""
        return find_spec(self.package) is not None

    @property
    def comparable(self) -> bool:
        """Whether it must come to the cost that ours comes to."""
        return self.trains and self.follows

    def takes(self, workload: Workload) -> bool:
        """Whether it belongs into the workload's table."""
        return not self.stacked or workload.members > 1


TOOLS: dict[str, Tool] = {
    "ours": Tool("Chainrule", "ours"),
    "ours-compiled": Tool("Chainrule, compiled step", "ours_compiled", "numba"),
    "ours-stacked": Tool("Chainrule, stacked", "ours_stacked", stacked=True),
    "products": Tool("its matrix products alone", "products", trains=False),
    "numpy": Tool("tutorial NumPy, float64", "numpy_loop"),
    "torch": Tool("PyTorch, eager", "torch_eager", "torch"),
    "torch-loader": Tool("PyTorch with DataLoader", "torch_loader", "torch"),
    "jax-step": Tool("JAX, jitted step", "jax_step", "jax"),
    "jax-scan": Tool("JAX, one scan over all", "jax_scan", "jax"),
    "jax-vmap": Tool("JAX, vmap over scan", "jax_vmap", "jax", stacked=True),
    "sklearn": Tool("scikit-learn MLPClassifier", "sklearn_mlp", "sklearn", follows=False),
    "keras": Tool("Keras fit on JAX", "keras_fit", "keras", follows=False),
}
