"""Private keys: generation, the kinds accepted in a leaf, and PEM encoding."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from pki.errors import AuthorityError

# BoringSSL (gRPC) has no signature algorithm in common with Ed25519 and P-521 leaves.
_LEAF_CURVES = (ec.SECP256R1, ec.SECP384R1)

# OpenSSL reads passphrases into a buffer of 1,024 bytes (PEM_BUFSIZE); `cryptography` refuses what does not fit.
MAX_PASSPHRASE_BYTES = 1023


def make_leaf_key() -> ec.EllipticCurvePrivateKey:
    """Generate a P-256 key, which every TLS stack of the network supports."""
    return ec.generate_private_key(ec.SECP256R1())


def make_ca_key() -> ec.EllipticCurvePrivateKey:
    """Generate a P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def check_leaf_key(key: PublicKeyTypes) -> ec.EllipticCurvePublicKey:
    """Return the key if it is accepted in a leaf; raise `AuthorityError` otherwise."""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _LEAF_CURVES):
        return key
    kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__.lstrip("_")
    raise AuthorityError(f"a key that gRPC or this network refuses ({kind}): use P-256 or P-384")


def private_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """Encode a key as PKCS #8, encrypted if a passphrase of 1 to MAX_PASSPHRASE_BYTES bytes is given."""
    encryption = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
