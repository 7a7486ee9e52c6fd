"""The command ``lola``: one file a command."""


def start() -> int:
    """Run the command, and end on Ctrl-C with a line even while it is being imported."""
    try:
        from lola.cli.main import main

        return main()
    except KeyboardInterrupt:
        import sys

        print("lola: interrupted", file=sys.stderr)
        return 130
