"""The reference job for FP64 products: python fp64.py, or python -m hybridhpc.refjobs.fp64. See docs/fp64.md.

`from hybridhpc.refjobs.fp64 import matmul` gives the function for PyTorch.
"""

import sys
from pathlib import Path

try:
    if __package__:
        from .kernels.fp64_job import main
        from .kernels.matmul import explain, matmul
    else:
        sys.path.insert(0, str(Path(__file__).parent))  # python -I and PYTHONSAFEPATH leave it out
        from kernels.fp64_job import main  # type: ignore[import-not-found,no-redef]
        from kernels.matmul import explain, matmul  # type: ignore[import-not-found,no-redef]
except ImportError as missing:
    if __name__ != "__main__":
        raise
    sys.exit(f"fp64.py: {missing}; what it needs: pip install torch numpy matplotlib")

__all__ = ["explain", "main", "matmul"]

if __name__ == "__main__":
    sys.exit(main())
