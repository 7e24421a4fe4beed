"""Errors of the projection. Messages are one line, say what to do, and contain no password."""


class ProjectionError(Exception):
    """Base of every error of this package."""


class ProjectionUnavailable(ProjectionError):
    """PostgreSQL cannot be reached, or did not respond in time; retry later."""


class Fenced(ProjectionError):
    """A leader of a later term writes the projection: this one has been deposed and must stop writing."""


class ProjectionBehind(ProjectionError):
    """The projection lacks events that it once had and that the cluster has evicted since."""


class ProjectionAhead(ProjectionError):
    """The projection has events that the cluster does not have."""


class ProjectionForeign(ProjectionError):
    """The projection has the history of another cluster."""


class DatabaseSchemaError(ProjectionError):
    """The schema of the database does not match this release."""


class PageTokenError(ProjectionError):
    """A page token that this listing did not return."""
