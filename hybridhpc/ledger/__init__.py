"""What was promised and what happened. Effects; no site is asked here."""
