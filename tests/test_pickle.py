"""No pickle: what is read from users, files, the network or the database never decides what code runs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
SOURCES = sorted((ROOT / "chainrule").rglob("*.py"))


def offences(source: str) -> Iterator[str]:
    """Find what reads pickles: their modules, loaders of arrays that may, columns that keep them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in FORBIDDEN)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from [node.module] if node.module.partition(".")[0] in FORBIDDEN else []
            yield from (alias.name for alias in node.names if alias.name == "PickleType")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            safe = any(one.arg == "allow_pickle" and ast.unparse(one.value) == "False" for one in node.keywords)
            if called in ("np.load", "np.save", "np.savez", "np.savez_compressed", "numpy.load") and not safe:
                yield called
            if called.endswith(("format.read_array", "torch.load", "yaml.load")) and not safe:
                yield called


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "import cloudpickle as c", "np.load(f)", "torch.load(f)",
     "np.load(f, allow_pickle=True)", "from sqlalchemy import PickleType", "np.savez(f, **arrays)"],
)  # fmt: skip
def test_a_pickle_is_found(source: str) -> None:
    assert list(offences(source))


def test_no_source_file_reads_or_writes_pickles() -> None:
    assert len(SOURCES) > 100
    assert {str(path): found for path in SOURCES if (found := list(offences(path.read_text())))} == {}
