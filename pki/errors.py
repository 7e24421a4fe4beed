"""Every error of this room: one line that names the file or field and says the cure."""


class PkiError(Exception):
    """Base of everything that this room raises for a mistake outside of it."""


class IdentityError(PkiError):
    """A name, URI or certificate that is no identity of this network, or not the one that is needed."""


class AuthorityError(PkiError):
    """The authority refuses to sign: a host out of its scope, a role without its hosts, an expired issuer."""


class ChainError(PkiError):
    """A certificate that does not lead to a trusted root."""


class StoreError(PkiError):
    """The authority's directory cannot be read, written or locked, or does not hold what it should."""


class TlsError(PkiError):
    """An identity's files cannot be used: which file, what is wrong with it, what to do."""
