"""``python -m stream_enhance``: the command line."""

from .cli.main import main

main()
