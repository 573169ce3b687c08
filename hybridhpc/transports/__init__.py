"""How commands travel to a site. Effects; no scheduler is known here."""
