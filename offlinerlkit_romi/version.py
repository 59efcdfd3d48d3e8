"""The package's version, where everybody can import it."""

__version__ = "0.2.0"
