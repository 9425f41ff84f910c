"""Exports: the network of a checkpoint as a file that other programs run, without us; it takes raw rows."""

from typing import Any

import chainrule
from chainrule.app.errors import NotAcceptable
from chainrule.app.services import datasets
from chainrule.app.services.checkpoints import Kept, open_kept
from chainrule.app.services.torch_weights import encode_torch
from chainrule.app.store.database import Database

LARGEST_ONNX_BYTES = 2_000_000_000
"""What an ONNX file holds: one of 2 GiB or more is no protocol buffer any more."""


def onnx(database: Database, kept: Kept) -> bytes:
    """Write a checkpoint as an ONNX model; of one run and epoch always the same bytes.

    Raises:
        NotAcceptable: the onnx package is not installed, or the network is too large for the format.
    """
    try:
        from chainrule.app.services.onnx_models import encode_onnx
    except ModuleNotFoundError as error:
        raise NotAcceptable(
            f"This service cannot write ONNX: the package {error.name} is missing where it runs. "
            "Install it there with pip install 'chainrule[onnx]', or fetch safetensors, npz, json or torch."
        ) from error
    network = open_kept(kept).network
    if network.parameters.nbytes > LARGEST_ONNX_BYTES:
        raise NotAcceptable(
            f"The weights are {network.parameters.nbytes:,} bytes and an ONNX file holds {LARGEST_ONNX_BYTES:,}; "
            "fetch safetensors, npz or torch."
        )
    about = _about(database, kept)
    return encode_onnx(network, kept.inputs, len(about["classes"]), about)


def torch(database: Database, kept: Kept) -> bytes:
    """Write a checkpoint under the names of a `torch.nn.Sequential`; of one run and epoch always the same bytes.

    Raises:
        NotAcceptable: a linear layer cannot do what the run does to its inputs.
    """
    try:
        return encode_torch(open_kept(kept).network, kept.inputs, _about(database, kept))
    except ValueError as error:
        raise NotAcceptable(
            f"The inputs of run {kept.run_id} cannot be folded into its first layer: {error}. Fetch onnx, which has "
            "the preprocessing in it, or safetensors or npz, whose weights take inputs that have been preprocessed."
        ) from error


def _about(database: Database, kept: Kept) -> dict[str, Any]:
    """Say where a file comes from and what its inputs and outputs mean."""
    dataset = datasets.get(database, kept.config["dataset"])
    return {
        "run": kept.run_id,
        "epoch": kept.epoch,
        "weights_sha256": kept.sha256,
        "classes": dataset["classes"],
        "features": dataset["report"]["feature_names"],
        "categories": kept.inputs.categories,
        "chainrule": chainrule.__version__,
    }
