"""Plans: what a spec of a run comes to, checked, completed and estimated before anything is taken."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.app.config import MIB, Settings
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import break_even, datasets, training
from chainrule.app.services.formats.table import listed
from chainrule.app.services.input_files import in_memory_bytes
from chainrule.app.store.database import Database
from chainrule.engine import (
    OPTIMIZERS,
    SCHEDULES,
    EngineError,
    OptimizerSpec,
    ScheduleSpec,
    TrainingConfig,
    activation,
    compiled,
    cost,
    default_initializer,
)
from chainrule.engine.arrays import dtype_of
from chainrule.engine.errors import UnknownNameError
from chainrule.engine.preprocessing import (
    ENCODINGS,
    SCALINGS,
    Preprocessing,
    check_categories,
    fit,
    identity,
    width,
)

_EPOCH_BYTES = 150
_RECORD_BYTES = 130
_TENSOR_HEADER_BYTES = 80
_GANG_BYTES, _SHARD_BYTES = 96 * MIB, 9 * MIB
"""What a cluster's client takes, and what each shard's thread does for its stack."""


@dataclass(frozen=True)
class Plan:
    """A spec found good: the complete config, what running it will take, and how features become inputs."""

    config: dict[str, Any]
    engine: TrainingConfig
    steps_per_epoch: int
    estimate: dict[str, int]
    inputs: Preprocessing


Fitted = dict[str, Preprocessing]
"""How features become inputs, by all that decides it."""


def make(database: Database, settings: Settings, spec: dict[str, Any], fitted: Fitted | None = None) -> Plan:
    """Check a spec, fill its defaults in and estimate what it takes; takes nothing itself.

    Args:
        database: with the datasets.
        settings: with the limits.
        spec: of the run.
        fitted: what was fitted for runs like it just now, to be used again; what is fitted is added.

    Raises:
        InvalidInput: the spec is wrong; with a pointer to the place.
        LimitExceeded: it would take more than a limit of the service.
    """
    info = _describe(database, spec["dataset"], "/dataset")
    validation = spec.get("validation")
    held_out = None
    if validation and validation.get("dataset") is not None:
        held_out = _describe(database, validation["dataset"], "/validation/dataset")
        _same_shape(info, held_out)
    try:
        config = _complete(spec, info)
        engine = training.engine_config(config, info.features)
        compiled.check(engine.step)
        _fit(engine, info)
        _fit_weights(engine, info)
        samples, validating = training.split_sizes(
            info.samples, config["validation"], held_out.samples if held_out else None
        )
        engine.check_batches(samples)
    except EngineError as error:
        raise InvalidInput.at(f"/{error.field}" if error.field else "", str(error)) from error
    if samples < 1 or (validation and validating < 1):
        raise InvalidInput.at(
            "/validation/fraction",
            f"A fraction of {validation['fraction'] if validation else 0} leaves {samples} samples for training and "
            f"{validating} for validation out of {info.samples}; each needs at least one.",
        )
    if config["gradients"]["every"] is None:
        batch = engine.batch(samples)
        every = training.default_gradients_every(engine.epochs, engine.network, samples, batch)
        config["gradients"], engine = {"every": every}, replace(engine, gradients_every=every)
    _worth_sharding(config, engine, samples)
    steps = engine.steps_per_epoch(samples)
    estimate = {
        "parameters": engine.network.parameter_count,
        "steps": steps * engine.epochs,
        "memory_bytes": engine.memory_bytes(samples, validating),
        "storage_bytes": _storage_bytes(config, engine),
    }
    if config["inputs"] is not None:
        # The samples made for it, if they are not mapped from a file, beside the copy that is trained on.
        itemsize = np.dtype(dtype_of(engine.dtype)).itemsize
        for made in (samples, validating):
            estimate["memory_bytes"] += in_memory_bytes(made, engine.network.inputs, itemsize)
    if engine.shards > 1:
        estimate["memory_bytes"] += _GANG_BYTES + _SHARD_BYTES * engine.shards
    _limit(settings, estimate)
    own = config["max_memory_bytes"]
    if own is not None and own < estimate["memory_bytes"]:
        needs = f"This run needs an estimated {estimate['memory_bytes']:,} bytes; allow it more, or leave this out."
        raise InvalidInput.at("/max_memory_bytes", needs)
    _check_targets(database, settings, config)
    alike = json.dumps([config[name] for name in ("dataset", "validation", "inputs")])
    fitted = {} if fitted is None else fitted
    if config["inputs"] is None or alike not in fitted:
        fitted[alike] = _fitted_inputs(database, settings, config)
    return Plan(config, engine, steps, estimate, fitted[alike])


def _complete(spec: dict[str, Any], info: datasets.DatasetInfo) -> dict[str, Any]:
    """Fill every default in, so that the stored config says all that determines the run."""
    layers = [dict(layer) for layer in spec["network"]["layers"]]
    for position, layer in enumerate(layers):
        try:
            activation(layer["activation"])
        except EngineError as error:
            error.field = f"network/layers/{position}/activation"
            raise
        if layer.get("initializer") is None:
            layer["initializer"] = default_initializer(layer["activation"])
        layer["dropout"] = layer.get("dropout") or 0.0
    made = width(info.categories)
    inputs = spec["network"].get("inputs") or made
    if inputs != made:
        one_hot = "" if made == info.features else f", which one-hot columns make {made}"
        raise InvalidInput.at(
            "/network/inputs",
            f"The network takes {inputs} inputs and the dataset has {info.features} features{one_hot}; "
            f"set inputs to {made} or leave it out.",
        )
    entropic = info.classes and layers and layers[-1]["activation"] in cost("cross_entropy").fits
    gradients = spec.get("gradients") or {}
    every = gradients.get("every")
    return {
        "name": spec.get("name") or "",
        "dataset": spec["dataset"],
        "validation": spec.get("validation"),
        "inputs": _complete_inputs(spec.get("inputs") or {}, info),
        "network": {"inputs": inputs, "layers": layers},
        "cost": spec.get("cost") or ("cross_entropy" if entropic else "mse"),
        "label_smoothing": spec.get("label_smoothing") or 0.0,
        "class_weights": spec.get("class_weights"),
        "sample_weights": spec.get("sample_weights", True),
        "optimizer": _complete_optimizer(spec.get("optimizer") or {}),
        "schedule": _complete_schedule(spec.get("schedule") or {}),
        "clip": _given(spec.get("clip") or {}) or None,
        # A penalty of 0 is none.
        "regularization": {n: v for n, v in _given(spec.get("regularization") or {}).items() if v} or None,
        "early_stopping": spec.get("early_stopping"),
        "epochs": spec["epochs"],
        "batch_size": spec.get("batch_size"),
        "shuffle": spec.get("shuffle", True),
        "seed": spec.get("seed", 0),
        "dtype": spec.get("dtype", "float32"),
        "step": spec.get("step", "numpy"),
        "shards": spec.get("shards", 1),
        "shards_even_if_slower": spec.get("shards_even_if_slower", False),
        "checkpoints": {"every": 1, "keep": None, **(spec.get("checkpoints") or {})},
        "gradients": {"every": every},
        "priority": spec.get("priority", 0),
        "max_duration_s": spec.get("max_duration_s"),
        "max_memory_bytes": spec.get("max_memory_bytes"),
    }


def _complete_inputs(given: dict[str, Any], info: datasets.DatasetInfo) -> dict[str, Any] | None:
    """Say how features become inputs; None where they go in as they are. Categories never do."""
    chosen = {"scaling": "none", "categorical": "one_hot", **_given(given)}
    for field, known in (("scaling", SCALINGS), ("categorical", ENCODINGS)):
        if chosen[field] not in known:
            raise UnknownNameError(field, chosen[field], known, f"inputs/{field}")
    categorical = any(column is not None for column in info.categories)
    return chosen if categorical or chosen["scaling"] != "none" else None


def _fitted_inputs(database: Database, settings: Settings, config: dict[str, Any]) -> Preprocessing:
    """Fit to the training rows, and to them alone, how features become inputs."""
    if config["inputs"] is None:
        return identity(config["network"]["inputs"])
    part, _ = training.raw_split(database, settings, config)
    try:
        return fit(part.data, config["inputs"]["scaling"], part.rows)
    except EngineError as error:
        raise InvalidInput.at(f"/{error.field}", str(error)) from error


def _complete_optimizer(given: dict[str, Any]) -> dict[str, Any]:
    spec = OptimizerSpec(**_given(given))
    return _used("optimizer", spec, given, ("learning_rate", *OPTIMIZERS[spec.name].uses))


def _complete_schedule(given: dict[str, Any]) -> dict[str, Any]:
    spec = ScheduleSpec(**_given(given))
    return _used("schedule", spec, given, (*SCHEDULES[spec.name].uses, "warmup_epochs"))


def _given(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in numbers.items() if value is not None}


def _used(
    kind: str, spec: OptimizerSpec | ScheduleSpec, given: dict[str, Any], uses: tuple[str, ...]
) -> dict[str, Any]:
    """Choose the numbers that one of a kind uses; refuse those given that it does not."""
    unused = sorted(set(_given(given)) - {"name", *uses})
    if unused:
        raise InvalidInput.at(
            f"/{kind}/{unused[0]}",
            f"{kind.capitalize()} {spec.name!r} does not use {unused[0]}; it uses {', '.join(uses)}.",
        )
    return {"name": spec.name, **{name: getattr(spec, name) for name in uses}}


def _fit(engine: TrainingConfig, info: datasets.DatasetInfo) -> None:
    """Check that the dataset's targets fit the network's output."""
    units = engine.network.outputs
    last = len(engine.network.layers) - 1
    output = engine.network.layers[last].activation
    if not info.classes:
        if units != info.targets:
            raise InvalidInput.at(
                f"/network/layers/{last}/units",
                f"The dataset has {info.targets} targets and the output layer {units} units; set it to {info.targets}.",
            )
        if engine.cost == "cross_entropy":
            raise InvalidInput.at(
                "/cost",
                "Cost 'cross_entropy' needs a dataset with class labels; for numeric targets use 'mse', for labels of "
                "which any number may hold 'binary_cross_entropy'.",
            )
        for name, given in (("label_smoothing", engine.label_smoothing), ("class_weights", engine.class_weights)):
            if given:
                raise InvalidInput.at(
                    f"/{name}", f"{name} is for class labels and the dataset has numeric targets; leave it out."
                )
        return
    fitting = {len(info.classes)} | ({1} if len(info.classes) == 2 and output != "softmax" else set())
    if units not in fitting:
        wanted = " or ".join(str(n) for n in sorted(fitting))
        raise InvalidInput.at(
            f"/network/layers/{last}/units",
            f"The dataset has {len(info.classes)} classes and the output layer {units} units; set it to {wanted}.",
        )


def _fit_weights(engine: TrainingConfig, info: datasets.DatasetInfo) -> None:
    """Check that there is a weight for each class, and one that counts."""
    given = engine.class_weights
    if not isinstance(given, tuple):
        return
    if len(given) != len(info.classes):
        raise InvalidInput.at(
            "/class_weights",
            f"There are {len(given)} weights and {len(info.classes)} classes; give one for each of "
            f"{listed(info.classes)}, in this order, or 'balanced'.",
        )
    if not any(given):
        raise InvalidInput.at(
            "/class_weights", "All weights are 0, so that nothing could be learnt; raise one of them."
        )


def _check_targets(database: Database, settings: Settings, config: dict[str, Any]) -> None:
    """Check that targets are from 0 to 1, for the cost that is defined for these alone."""
    if config["cost"] != "binary_cross_entropy":
        return
    validation = config["validation"] or {}
    for pointer, dataset in (("/dataset", config["dataset"]), ("/validation/dataset", validation.get("dataset"))):
        Y = None if dataset is None else datasets.open_data(database, settings, dataset).Y
        if Y is not None and not (Y.min() >= 0 and Y.max() <= 1):
            raise InvalidInput.at(
                pointer,
                f"Cost 'binary_cross_entropy' needs targets from 0 to 1, and those of dataset {dataset} run from "
                f"{Y.min():g} to {Y.max():g}; map them, or use 'mse'.",
            )


def _worth_sharding(config: dict[str, Any], engine: TrainingConfig, samples: int) -> None:
    """Refuse shards where they would make the run slower, unless that is wanted."""
    shards, batch, parameters = engine.shards, engine.batch(samples), engine.network.parameter_count
    if shards == 1 or config["shards_even_if_slower"] or batch >= (least := break_even.batch(parameters, shards)):
        return
    alone_s, sharded_s = break_even.step_s(parameters, batch, 1), break_even.step_s(parameters, batch, shards)
    fix = "raise it, leave shards out" if least <= samples else f"with {samples:,} samples leave shards out"
    raise InvalidInput.at(
        "/shards",
        f"{shards} shards would make this run slower: a step over {batch} samples with {parameters:,} parameters takes "
        f"about {1000 * alone_s:.2g} ms in one piece and {1000 * sharded_s:.2g} ms in {shards}, because parameters and "
        f"gradients are exchanged each time. It pays from a batch_size of about {least:,}; {fix}, or set "
        "shards_even_if_slower.",
    )


def _limit(settings: Settings, estimate: dict[str, int]) -> None:
    every = "Keep fewer weights: raise checkpoints.every or set checkpoints.keep."
    for what, value, limit, setting, pointer, hint in (
        ("The number of parameters", estimate["parameters"], settings.max_parameters, "PARAMETERS", "/network", ""),
        ("The number of steps", estimate["steps"], settings.max_steps, "STEPS", "/epochs", ""),
        ("The memory in bytes", estimate["memory_bytes"], settings.max_memory_bytes, "MEMORY_BYTES", "/network", ""),
        ("The storage in bytes", estimate["storage_bytes"], settings.max_storage_bytes, "STORAGE_BYTES",
         "/checkpoints/every", every),
    ):  # fmt: skip
        if value > limit:
            raise LimitExceeded(what, value, limit, f"CHAINRULE_MAX_{setting}", pointer=pointer, hint=hint)


def _storage_bytes(config: dict[str, Any], engine: TrainingConfig) -> int:
    epochs: int = engine.epochs
    layers = len(engine.network.layers)
    itemsize = 8 if engine.dtype == "float64" else 4
    network = engine.network
    normalizing = sum(layer.normalization is not None for layer in network.layers)
    values: int = network.parameter_count + network.running_count
    checkpoint: int = values * itemsize + (2 * layers + 4 * normalizing) * _TENSOR_HEADER_BYTES + 100
    kept: int = math.ceil(epochs / config["checkpoints"]["every"]) + 2
    if config["checkpoints"]["keep"] is not None:
        kept = min(kept, config["checkpoints"]["keep"] + 2)
    kept += engine.early_stopping is not None  # the best
    recorded: int = math.ceil(epochs / config["gradients"]["every"]) + 2 if config["gradients"]["every"] else 0
    # The last resume point: the parameters, the best ones, and the optimizer's state.
    vectors: int = 1 + len(OPTIMIZERS[engine.optimizer.name].state) + (engine.early_stopping is not None)
    resume_point = vectors * (values * itemsize + 2 * _TENSOR_HEADER_BYTES)
    records = recorded * 2 * (layers + normalizing)
    return kept * checkpoint + resume_point + epochs * _EPOCH_BYTES + records * _RECORD_BYTES


def _describe(database: Database, dataset: str, pointer: str) -> datasets.DatasetInfo:
    try:
        return datasets.describe(database, dataset)
    except NotFound as error:
        raise InvalidInput.at(pointer, f"{error.detail} GET /v1/datasets lists those there are.") from error


def _same_shape(info: datasets.DatasetInfo, held_out: datasets.DatasetInfo) -> None:
    if (info.features, info.targets, info.classes) != (held_out.features, held_out.targets, held_out.classes):
        raise InvalidInput.at(
            "/validation/dataset",
            f"The validation dataset ({held_out.features} features, {len(held_out.classes)} classes) does not match "
            f"the training dataset ({info.features} features, {len(info.classes)} classes); "
            "features and classes must be the same, in the same order.",
        )
    try:
        check_categories(info.categories, held_out.categories)
    except EngineError as error:
        raise InvalidInput.at("/validation/dataset", str(error)) from error
