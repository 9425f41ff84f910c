"""Where shards pay: what a step costs in one piece and in several, as measured.

    in one piece   w·m·p                               m samples of a batch, p parameters
    in K shards    w·m·p/K + (K − 1)·(c + e·p)         each shard but the first is told p numbers and answers with p

`benchmarks/shards.py` measures w, c and e. The figures are those of one machine, and know nothing of another network or
processor. They decide what is refused, never what comes out.
"""

import math

WORK_S = 5.4e-11
"""w: of a sample and a parameter, float32 on one core."""
EXCHANGE_S = 1.8e-3
"""c: of asking a shard and hearing from it."""
PARAMETER_S = 9e-9
"""e: of a parameter sent and the gradient's value for it received and added, while cores share their memory."""


def step_s(parameters: int, batch: int, shards: int) -> float:
    """Estimate how long a step takes."""
    return WORK_S * batch * parameters / shards + (shards - 1) * (EXCHANGE_S + PARAMETER_S * parameters)


def batch(parameters: int, shards: int) -> int:
    """Tell the smallest batch for which so many shards are quicker than one piece."""
    return math.ceil(shards * (EXCHANGE_S / parameters + PARAMETER_S) / WORK_S)
