"""Projection of the replicated state in PostgreSQL, and its reads. See DESIGN.md.

The only package with SQL and psycopg.
"""

from coordinator.store.connection import Database
from coordinator.store.connections import ConnectionPool
from coordinator.store.conninfo import ConninfoError, check_values, parse_url
from coordinator.store.errors import (
    DatabaseSchemaError,
    Fenced,
    PageTokenError,
    ProjectionAhead,
    ProjectionBehind,
    ProjectionError,
    ProjectionForeign,
    ProjectionUnavailable,
)
from coordinator.store.observer import StoreObserver
from coordinator.store.outbox import EventOutbox, StateOutbox
from coordinator.store.projection_reader import ProjectedTasks, ProjectionReader, Summary
from coordinator.store.projector import Projector, ProjectorStatus

__all__ = [
    "ConnectionPool",
    "ConninfoError",
    "Database",
    "DatabaseSchemaError",
    "EventOutbox",
    "Fenced",
    "PageTokenError",
    "ProjectedTasks",
    "ProjectionAhead",
    "ProjectionBehind",
    "ProjectionError",
    "ProjectionForeign",
    "ProjectionReader",
    "ProjectionUnavailable",
    "Projector",
    "ProjectorStatus",
    "StateOutbox",
    "StoreObserver",
    "Summary",
    "check_values",
    "parse_url",
]
