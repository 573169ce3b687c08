"""The reference training job: a small network learns to read handwritten digits, on every rank that torchrun started.

It shows what a job must do to survive an interruption: checkpoints that are never half written, an exact resume in
mid-epoch, a clean stop when a signal asks for it. Exit codes of a rank: 0 target reached, 1 failed, 2 wrong command
line, 3 target missed, 75 stopped after a checkpoint because a signal asked (the same command goes on from there).
"""

import sys
from pathlib import Path

try:
    if __package__:
        from .training.job import leave, main
    else:
        sys.path.insert(0, str(Path(__file__).parent))  # python -I and PYTHONSAFEPATH leave it out
        from training.job import leave, main  # type: ignore[import-not-found,no-redef]
except ImportError as missing:
    if __name__ != "__main__":
        raise
    sys.exit(f"train.py: {missing}; what it needs: pip install torch==2.13.0 numpy scikit-learn matplotlib")

if __name__ == "__main__":
    leave(main())
