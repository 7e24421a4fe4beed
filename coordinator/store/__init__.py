"""The record in PostgreSQL: the one place for SQL and for psycopg. DESIGN.md here says why it is so."""

from coordinator.store.connection import Database
from coordinator.store.connections import Connections
from coordinator.store.conninfo import ConninfoError, check_values, parse_url
from coordinator.store.errors import (
    Fenced,
    PageTokenError,
    RecordAhead,
    RecordBehind,
    RecordError,
    RecordForeign,
    RecordUnavailable,
    SchemaError,
)
from coordinator.store.observer import Observer
from coordinator.store.outbox import Outbox, StateOutbox
from coordinator.store.projector import Projector, ProjectorStatus
from coordinator.store.task_reader import Page, Record, Summary

__all__ = [
    "Connections",
    "ConninfoError",
    "Database",
    "Fenced",
    "Observer",
    "Outbox",
    "Page",
    "PageTokenError",
    "Projector",
    "ProjectorStatus",
    "Record",
    "RecordAhead",
    "RecordBehind",
    "RecordError",
    "RecordForeign",
    "RecordUnavailable",
    "SchemaError",
    "StateOutbox",
    "Summary",
    "check_values",
    "parse_url",
]
