"""How robust a model is: suites of attacks, the worst case, masking diagnostics, and one report."""
