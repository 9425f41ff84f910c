"""Named arrays as bytes: safetensors for keeping, NPZ and lists for handing out."""

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from chainrule.engine import Network

Arrays = Mapping[str, NDArray[Any]]


def encode_safetensors(arrays: Arrays) -> bytes:
    """Write arrays as safetensors; equal arrays give equal bytes."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def decode_safetensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Read what `encode_safetensors` wrote."""
    return load(content)


class NetworkEncoder:
    """Writes networks of one shape as `encode_safetensors` would.

    The header depends on the shape alone: it is taken from the first network, and after that only
    parameters are copied, which is several times faster for small networks.
    """

    def __init__(self) -> None:
        self._header = b""
        self._order: list[str] = []

    def encode(self, network: Network) -> bytes:
        """Write W1, b1, W2, … of a network."""
        if not self._header:
            content = encode_safetensors(network.named())
            end = 8 + int.from_bytes(content[:8], "little")
            entries = json.loads(content[8:end])
            self._header = content[:end]
            self._order = sorted(entries, key=lambda name: int(entries[name]["data_offsets"][0]))
            return content
        arrays = network.blocks | network.statistics
        return b"".join([self._header, *(arrays[name].tobytes() for name in self._order)])


def encode_npz(arrays: Arrays) -> bytes:
    """Write arrays as an uncompressed NPZ archive; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    """Hash weights as they are kept: the hexadecimal SHA-256 that `sha256sum` prints for the file."""
    return hashlib.sha256(content).hexdigest()
