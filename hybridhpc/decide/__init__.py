"""Where a job should run: forecast, price, rank. Pure; no question to a site enters here."""
