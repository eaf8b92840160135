"""The version of the package, read by everything that records what wrote a file."""

__all__ = ["__version__"]

__version__ = "0.2.0"
