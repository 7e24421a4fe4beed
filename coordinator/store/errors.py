"""What can go wrong with the record. Messages are one line, say the cure, and hold no password."""


class ProjectionError(Exception):
    """Base of every error of this room."""


class ProjectionUnavailable(ProjectionError):
    """PostgreSQL cannot be reached, or did not answer in time: try again later."""


class Fenced(ProjectionError):
    """A later term writes the record: this leader has been deposed and must stop writing."""


class ProjectionBehind(ProjectionError):
    """The record lacks events that it once held, and that the cluster has forgotten since."""


class ProjectionAhead(ProjectionError):
    """The record holds events that the cluster does not know."""


class ProjectionForeign(ProjectionError):
    """The record holds the history of another cluster."""


class DatabaseSchemaError(ProjectionError):
    """The tables are not those that this release works with."""


class PageTokenError(ProjectionError):
    """A page token that this listing did not hand out."""
