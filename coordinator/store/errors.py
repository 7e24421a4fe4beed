"""What can go wrong with the record. Messages are one line, say the cure, and hold no password."""


class RecordError(Exception):
    """Base of every error of this room."""


class RecordUnavailable(RecordError):
    """PostgreSQL cannot be reached, or did not answer in time: try again later."""


class Fenced(RecordError):
    """A later term writes the record: this leader has been deposed and must stop writing."""


class RecordBehind(RecordError):
    """The record lacks events that it once held, and that the cluster has forgotten since."""


class RecordAhead(RecordError):
    """The record holds events that the cluster does not know."""


class RecordForeign(RecordError):
    """The record holds the history of another cluster."""


class SchemaError(RecordError):
    """The tables are not those that this release works with."""


class PageTokenError(RecordError):
    """A page token that this listing did not hand out."""
