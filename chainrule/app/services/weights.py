"""Named arrays as bytes: safetensors for keeping, NPZ and lists for handing out."""

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

Arrays = Mapping[str, NDArray[Any]]


def encode_safetensors(arrays: Arrays) -> bytes:
    """Write arrays as safetensors; equal arrays give equal bytes."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def decode_safetensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Read what `encode_safetensors` wrote."""
    return load(content)


def encode_npz(arrays: Arrays) -> bytes:
    """Write arrays as an uncompressed NPZ archive; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    """Hash weights as they are kept: the hexadecimal SHA-256 that `sha256sum` prints for the file."""
    return hashlib.sha256(content).hexdigest()
