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

RECORDED_EPOCHS, LEAST_RECORDED = 100, 20
"""Of how many epochs at most a run keeps statistics when it does not say; and of how many, whatever that takes."""
RECORDING_SHARE = 0.05
"""Of the training time that they should take."""
STEP_S, SAMPLE_S, MULTIPLICATION_S, LAYER_S, PARAMETER_S = 1e-5, 2.5e-7, 1.6e-11, 9e-5, 2e-8
"""What a step, a sample, a multiplication for it, and of a record a layer and a parameter take, in seconds; roughly."""


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
    """Choose how often statistics are kept: at 100 epochs of a run at most, and where they would take more than a
    twentieth of the training time, as estimated from sizes, at no more than 20.
    """
    every = math.ceil(epochs / RECORDED_EPOCHS)
    if spec is None or not samples:
        return every
    of_sample = SAMPLE_S + MULTIPLICATION_S * 3 * spec.parameter_count
    of_epoch = math.ceil(samples / min(batch, samples)) * STEP_S + samples * of_sample
    of_record = len(spec.layers) * LAYER_S + min(PROBE, samples) * of_sample + spec.parameter_count * PARAMETER_S
    return max(every, min(math.ceil(epochs / LEAST_RECORDED), math.ceil(of_record / (RECORDING_SHARE * of_epoch))))


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
