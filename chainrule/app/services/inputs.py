"""Inputs: the map from raw features to a run's network, as it was fitted when the run was submitted."""

from typing import Any

from chainrule.app.services import datasets, training
from chainrule.app.services.runs import found
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.engine.preprocessing import ENCODINGS, SCALINGS


def get(database: Database, run_id: str) -> dict[str, Any]:
    """Show the map of a run, column by column.

    Raises:
        NotFound: there is no such run.
    """
    with database.reading() as session:
        run = found(runs.get(session, run_id), run_id)
        config, fitted = run.config, training.load_inputs(session, run.id, run.config)
    names = fitted.names or datasets.get(database, config["dataset"])["report"]["feature_names"]
    spec = config.get("inputs") or {"scaling": "none", "categorical": "one_hot"}
    columns: list[dict[str, Any]] = []
    for name, categories, offset, scale in zip(
        names, fitted.categories, fitted.offset.tolist(), fitted.scale.tolist(), strict=True
    ):
        if categories is None:
            columns.append({"name": name, "kind": "numeric", "offset": offset, "scale": scale})
        else:
            columns.append({"name": name, "kind": "categorical", "categories": list(categories)})
    return {
        "run": run_id,
        "scaling": spec["scaling"],
        "scaling_equation": SCALINGS[spec["scaling"]],
        "categorical": spec["categorical"],
        "categorical_equation": ENCODINGS[spec["categorical"]],
        "features": fitted.inputs,
        "inputs": fitted.outputs,
        "columns": columns,
    }
