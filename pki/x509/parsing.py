"""Parsing of certificates and CRLs: parsed eagerly, or rejected.

`cryptography` parses most fields lazily and raises on first access. The functions here access every field, so that
later code does not fail on a damaged one.
"""

import re
import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Exceptions that the parser raises for arbitrary bytes."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Parse one or more PEM certificates; raise ValueError if they are malformed."""
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # about unusual names and numbers, which are invalid in identities anyway
            certificates = x509.load_pem_x509_certificates(pem)
            for certificate in certificates:
                _parse_all_fields(certificate)
    except UNREADABLE as error:
        raise ValueError(str(error)) from None
    return certificates


def read_peer_certificate(data: bytes) -> x509.Certificate:
    """Parse one certificate from a TLS library, PEM or DER; raise ValueError if it is malformed."""
    load = x509.load_pem_x509_certificate if data.startswith(b"-----") else x509.load_der_x509_certificate
    try:
        with warnings.catch_warnings(action="ignore"):
            certificate = load(data)
            _parse_all_fields(certificate)
    except UNREADABLE as error:
        raise ValueError(str(error)) from None
    return certificate


def read_lists(pem: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    """Parse one or more PEM CRLs and nothing else; raise ValueError if they are malformed.

    A certificate among them is refused, because OpenSSL would trust it as a root.
    """
    blocks = list(_BLOCK.finditer(pem))
    if not blocks or any(block[1] != b"X509 CRL" for block in blocks) or pem.count(b"-----BEGIN ") != len(blocks):
        raise ValueError("something other than PEM revocation lists")
    try:
        with warnings.catch_warnings(action="ignore"):
            lists = tuple(x509.load_pem_x509_crl(block[0]) for block in blocks)
            for one in lists:
                _ = one.issuer, one.last_update_utc, one.next_update_utc, one.signature_hash_algorithm
                _ = one.signature_algorithm_parameters, list(one.extensions)
                _ = [entry.serial_number for entry in one]
    except UNREADABLE:
        raise ValueError("a damaged revocation list") from None
    return lists


def _parse_all_fields(certificate: x509.Certificate) -> None:
    _ = certificate.subject, certificate.issuer, certificate.public_key(), list(certificate.extensions)
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    _ = certificate.signature_hash_algorithm, certificate.signature_algorithm_parameters
    if certificate.serial_number <= 0:  # RFC 5280, 4.1.2.2; the parser only warns
        raise ValueError("its serial number is not positive")
