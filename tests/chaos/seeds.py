"""What a campaign repeats itself by: its seed, printed with every outcome, and its size."""

import os
import random

SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**31))
"""`CHAOS_SEED=…` repeats the choices of a run that was seen; by default each run makes its own."""
SCALE = int(os.environ.get("CHAOS_SCALE") or 1)
"""`CHAOS_SCALE=10` tries ten times as much."""
