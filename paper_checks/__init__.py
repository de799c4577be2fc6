"""Every claim of the papers behind this library, as a command with a verdict: ``python -m paper_checks``."""
