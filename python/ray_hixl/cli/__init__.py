"""The ``ray-hixl`` command."""
