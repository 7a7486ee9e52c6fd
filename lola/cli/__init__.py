"""The command ``lola``: one file a command."""
