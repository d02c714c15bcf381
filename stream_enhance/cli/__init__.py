"""The ``stream-enhance`` command, one file a subcommand."""
