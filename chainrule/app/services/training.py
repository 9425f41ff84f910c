"""What a run trains: its stored config as the engine's config, its data split, its resume point."""

import math
import platform
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

import chainrule
from chainrule.app.config import Settings
from chainrule.app.services import datasets
from chainrule.app.services.input_files import Part, open_inputs
from chainrule.app.services.weights import decode_safetensors, encode_safetensors
from chainrule.app.store import checkpoints as store
from chainrule.app.store import inputs as inputs_store
from chainrule.app.store.database import Database
from chainrule.engine import (
    ClipSpec,
    Data,
    EarlyStoppingSpec,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    ResumePoint,
    ScheduleSpec,
    TrainingConfig,
    blas,
    compiled,
    split_rows,
    split_size,
)
from chainrule.engine.arrays import dtype_of
from chainrule.engine.config import PROBE
from chainrule.engine.preprocessing import Preprocessing, identity

RECORDED_EPOCHS, LEAST_RECORDED, EACH_RECORDED = 100, 5, 20
"""Of how many epochs at most a run keeps statistics when it does not say; of how many, whatever that takes; and how few
there must be for each of them to be recorded."""
RECORDING_SHARE = 0.04
"""Of a run's time that they should take: what is promised is a twentieth, and this is an estimate."""
BEGIN_S, EPOCH_S, STEP_S, SAMPLE_S, MULTIPLICATION_S = 2e-2, 2.5e-5, 1e-5, 2.5e-7, 1.6e-11
"""What a run takes, in seconds, roughly: beginning, and each epoch, step, sample, and multiplication for a sample."""
FIRST_RECORD_S, LAYER_S, PARAMETER_S, COLD = 2e-3, 1.1e-4, 2e-8, 2
"""What records take: the first one more than the others, and each one a layer, a parameter, and of the probe a sample
so many times as long as in training, for what it needs is not at hand, and neither is, after it, what training needs.
"""


def network_spec(network: Mapping[str, Any], inputs: int) -> NetworkSpec:
    """Build the engine's network from its wire form.

    Raises:
        EngineError: with the path of the wrong field.
    """
    layers = tuple(
        LayerSpec(
            layer["units"],
            layer["activation"],
            layer.get("initializer"),
            layer.get("dropout", 0.0),
            layer.get("normalization"),
        )
        for layer in network["layers"]
    )
    return NetworkSpec(network.get("inputs") or inputs, layers)


def engine_config(config: Mapping[str, Any], inputs: int) -> TrainingConfig:
    """Build the engine's config from a run's complete config; in those stored before they were known, keys are missing.

    Raises:
        EngineError: with the path of the wrong field.
    """
    every = config["gradients"]["every"]
    clip, early_stopping, class_weights = config.get("clip"), config.get("early_stopping"), config.get("class_weights")
    return TrainingConfig(
        network=network_spec(config["network"], inputs),
        cost=config["cost"],
        optimizer=OptimizerSpec(**config["optimizer"]),
        epochs=config["epochs"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        dtype=config["dtype"],
        shuffle=config["shuffle"],
        step=config.get("step", "numpy"),
        shards=config.get("shards", 1),
        gradients_every=every or None,
        schedule=ScheduleSpec(**(config.get("schedule") or {})),
        clip=ClipSpec(**clip) if clip else None,
        regularization=RegularizationSpec(**(config.get("regularization") or {})),
        label_smoothing=config.get("label_smoothing", 0.0),
        class_weights=tuple(class_weights) if isinstance(class_weights, list) else class_weights,
        early_stopping=EarlyStoppingSpec(**early_stopping) if early_stopping else None,
    )


def default_gradients_every(epochs: int, spec: NetworkSpec | None = None, samples: int = 0, batch: int = 1) -> int:
    """Choose how often statistics are kept: at 100 epochs of a run or, where those might take over a twentieth of its
    time, as estimated from sizes, at as many as that allows, but no fewer than 5 beside the first two. Runs of at most
    20 epochs keep those of each.
    """
    records = RECORDED_EPOCHS
    if spec is not None and samples and epochs > EACH_RECORDED:
        of_sample = SAMPLE_S + MULTIPLICATION_S * 3 * spec.parameter_count
        of_epoch = EPOCH_S + math.ceil(samples / min(batch, samples)) * STEP_S + samples * of_sample
        of_layers = len(spec.layers) * LAYER_S + spec.parameter_count * PARAMETER_S
        of_record = of_layers + min(PROBE, samples) * of_sample * COLD
        allowed = RECORDING_SHARE * (BEGIN_S + epochs * of_epoch) - FIRST_RECORD_S
        records = max(LEAST_RECORDED, min(records, int(allowed / of_record) - 2))
    return math.ceil(epochs / records)


def split_sizes(samples: int, validation: Mapping[str, Any] | None, validation_samples: int | None) -> tuple[int, int]:
    """Tell how many samples train and how many validate."""
    if validation is None:
        return samples, 0
    if validation_samples is not None:
        return samples, validation_samples
    held_out = split_size(samples, validation["fraction"])
    return samples - held_out, held_out


def load_split(
    database: Database, settings: Settings, run_id: str, config: Mapping[str, Any]
) -> tuple[Data, Data | None]:
    """Open the data a run trains on and the data it is validated on, both as its network takes them."""
    data, validation = raw_split(database, settings, config)
    with database.reading() as session:
        fitted = load_inputs(session, run_id, config)
    dtype = dtype_of(config["dtype"])
    return (
        open_inputs(settings, data, fitted, dtype),
        None if validation is None else open_inputs(settings, validation, fitted, dtype),
    )


def raw_split(database: Database, settings: Settings, config: Mapping[str, Any]) -> tuple[Part, Part | None]:
    """Open the data a run trains on and the data it is validated on, as they were uploaded."""
    name, validation = config["dataset"], config["validation"]
    data = open_data(database, settings, config, name)
    if validation is None:
        return Part(name, data), None
    if (other := validation.get("dataset")) is not None:
        return Part(name, data), Part(other, open_data(database, settings, config, other))
    rows, held_out = split_rows(data.samples, validation["fraction"], validation["seed"])
    return Part(name, data, rows), Part(name, data, held_out)


def open_data(database: Database, settings: Settings, config: Mapping[str, Any], dataset: str) -> Data:
    """Open one of a run's datasets; without its samples' weights if the run leaves them out."""
    data = datasets.open_data(database, settings, dataset)
    return data if config.get("sample_weights", True) else replace(data, weights=None)


def class_balance(database: Database, settings: Settings, config: Mapping[str, Any]) -> Data | None:
    """Give the classes of the samples a run trains on, without features, where they decide what classes weigh."""
    if config.get("class_weights") != "balanced":
        return None
    data = datasets.open_data(database, settings, config["dataset"])
    bare = Data(np.empty((data.samples, 0)), labels=data.labels, classes=data.classes)
    fraction = (config["validation"] or {}).get("fraction")
    return bare if fraction is None else bare.split(fraction, config["validation"]["seed"])[0]


def load_inputs(session: Session, run_id: str, config: Mapping[str, Any]) -> Preprocessing:
    """Read how a run maps raw features to its network's input; without preprocessing that changes nothing."""
    if config.get("inputs") is None:
        return identity(config["network"]["inputs"])
    fitted = inputs_store.get(session, run_id)
    assert fitted is not None, "a run with preprocessing is stored together with what was fitted"
    return Preprocessing.from_dict(fitted)


def load_resume_point(database: Database, run_id: str) -> ResumePoint | None:
    """Read where a run is to go on; None for its beginning."""
    with database.reading() as session:
        content = store.get_resume_point(session, run_id)
    return None if content is None else ResumePoint.from_arrays(decode_safetensors(content))


def encode_resume_point(point: ResumePoint) -> bytes:
    """Write a resume point as bytes that `load_resume_point` reads back exactly."""
    return encode_safetensors(point.to_arrays())


def builds(settings: Settings) -> dict[str, Any]:
    """Name what the last bit of a result depends on besides config and data."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "chainrule": chainrule.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "blas_threads": settings.blas_threads,
        **({"numba": numba} if (numba := compiled.version()) else {}),  # of compiled steps
        "machine": platform.machine(),
        **_processor(),
    }


@cache
def _processor() -> dict[str, str]:
    """Name the processor, and for which kind of processor NumPy and BLAS have chosen their code, where they tell."""
    listed = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)$", listed.read_text() if listed.exists() else "", flags=re.MULTILINE)
    simd = np.show_config(mode="dicts")["SIMD Extensions"].get("found") or ["baseline"]
    return {
        "cpu": model.group(1).strip() if model else platform.processor(),
        "numpy_simd": simd[-1],
        **({"blas_kernel": kernel} if (kernel := blas.kernel()) else {}),
    }
