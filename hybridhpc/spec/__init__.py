"""What the person wants: text to JobSpec. Pure; no file is read and no site is asked here."""
