"""The pages that docstrings cite: ``lola docs`` lists them, and ``lola docs theory`` prints one."""
