"""The page, its API, and what feeds them.  Needs the ``web`` extra."""
