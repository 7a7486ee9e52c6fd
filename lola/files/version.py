"""The version of lola that is installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lola-deft")
except PackageNotFoundError:  # a checkout that is imported from where it is
    __version__ = "unknown"
