"""Where `hpc` begins, and `python -m hybridhpc`: until all modules are read, Ctrl-C ends it without a traceback."""

from __future__ import annotations

from hybridhpc.interrupts import end_silently


def main() -> None:
    """Run `hpc`."""
    end_silently()
    from hybridhpc.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
