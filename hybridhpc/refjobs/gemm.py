"""The reference job for plain matrix products: python gemm.py, or python -m hybridhpc.refjobs.gemm (docs/fp64.md)."""

import sys
from pathlib import Path

try:
    if __package__:
        from .kernels.gemm_job import main
    else:
        sys.path.insert(0, str(Path(__file__).parent))  # python -I and PYTHONSAFEPATH leave it out
        from kernels.gemm_job import main  # type: ignore[import-not-found,no-redef]
except ImportError as missing:
    if __name__ != "__main__":
        raise
    sys.exit(f"gemm.py: {missing}; what it needs: pip install torch numpy matplotlib")

if __name__ == "__main__":
    sys.exit(main())
