"""Studies: rows of trainings and tests that end in one table; ``tools/study.py`` runs them."""
