"""Configuration of every daemon: YAML, then environment, then rules; an error is one line with a hint.

A daemon describes its configuration as a tree of `Section`s and calls `load`, or `read` if it has further checks
whose errors need a position in the file. This package reads no file but the configuration itself.
"""

from zkp.daemon.settings.errors import SchemaError, SettingFault, SettingProblem, SettingsError
from zkp.daemon.settings.load import LoadedSettings, load, read
from zkp.daemon.settings.section import Section
from zkp.daemon.settings.sections import TlsSettings, clashing_binds, repeated
from zkp.daemon.settings.values import (
    Address,
    AnchoredPath,
    Count,
    Duration,
    LogLevel,
    Name,
    ReachableAddress,
    Size,
    TrustDomain,
)

__all__ = [
    "Address",
    "AnchoredPath",
    "Count",
    "Duration",
    "LoadedSettings",
    "LogLevel",
    "Name",
    "ReachableAddress",
    "SchemaError",
    "Section",
    "SettingFault",
    "SettingProblem",
    "SettingsError",
    "Size",
    "TlsSettings",
    "TrustDomain",
    "clashing_binds",
    "load",
    "read",
    "repeated",
]
