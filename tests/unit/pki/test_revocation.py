"""CRL files: valid content and validity period."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pki.ca.authority import Authority, CertifiedKey
from pki.ca.profiles import CRL_LIFE
from pki.ca.signing import pem_of, sign_crl
from pki.errors import AuthorityError, RevocationError
from pki.x509.crl import CrlEntry, Reason, RevocationLists, expiry, signed_by
from pki.x509.identity import Role

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
AUTHORITY = Authority.create("zkp.local", now=NOW)
OTHER = Authority.create("zkp.local", now=NOW)
ISSUER, ROOT = AUTHORITY.issuer.certificate, AUTHORITY.roots[0]
GONE = CrlEntry(0xABCDEF, NOW, Reason.KEY_COMPROMISE)
LIST = AUTHORITY.crl([GONE, CrlEntry(7, NOW)], number=3, now=NOW)


def _root_list(now: datetime = NOW) -> x509.CertificateRevocationList:
    assert AUTHORITY.root is not None
    return sign_crl(AUTHORITY.root, [CrlEntry(99, now)], number=1, now=now, life=timedelta(days=400))


def test_a_list_says_what_when_and_why() -> None:
    """Number, dates, serial numbers and reasons are as they were given; no reason is none."""
    assert signed_by(LIST, ISSUER)
    assert LIST.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3
    assert LIST.last_update_utc < NOW
    assert expiry(LIST) == NOW + CRL_LIFE
    gone, plain = LIST.get_revoked_certificate_by_serial_number(GONE.serial), list(LIST)[1]
    assert gone is not None
    assert gone.revocation_date_utc == NOW
    assert gone.extensions.get_extension_for_class(x509.CRLReason).value.reason.value == "keyCompromise"
    assert list(plain.extensions) == []


def test_a_list_never_outlives_its_ca() -> None:
    """A list that an issuing CA signs in its last week ends with it, and after its end it signs none."""
    end = ISSUER.not_valid_after_utc
    assert expiry(AUTHORITY.crl((), number=1, now=end - timedelta(days=7))) == end
    with pytest.raises(AuthorityError, match="rotate-issuer"):
        AUTHORITY.crl((), number=1, now=end)


def test_a_file_holds_several_lists() -> None:
    """Serial numbers of all of them count, and each CA finds its own."""
    lists = RevocationLists.read(pem_of(LIST, _root_list()))
    assert lists.serials == {GONE.serial, 7, 99}
    assert lists.of(ISSUER) == LIST
    assert lists.of(OTHER.issuer.certificate) is None
    lists.check([ISSUER, ROOT], NOW)
    assert lists.next_updates([ISSUER, ROOT, OTHER.issuer.certificate]) == {
        ISSUER.serial_number: expiry(LIST),
        ROOT.serial_number: expiry(_root_list()),
    }


def test_of_two_lists_of_one_ca_the_newer_counts() -> None:
    """A file that was only added to is still read right."""
    newer = AUTHORITY.crl((), number=4, now=NOW + timedelta(days=2))
    assert RevocationLists.read(pem_of(newer, LIST)).of(ISSUER) == newer


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        pem_of(ISSUER),
        pem_of(LIST) + pem_of(ROOT),  # OpenSSL would make a root of it
        pem_of(LIST).replace(b"\nMII", b"\nMMM"),
        pem_of(LIST) + b"-----BEGIN CERTIFICATE-----\n",
    ],
)
def test_anything_but_lists_is_refused(content: bytes) -> None:
    """A file of lists holds lists alone, above all no certificate."""
    with pytest.raises(RevocationError, match=r"revocation list.*`pki bundle`"):
        RevocationLists.read(content)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(st.integers(0, len(pem_of(LIST)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(place: int, change: int) -> None:
    """No list with an altered byte passes for its CA's, and none breaks the reader."""
    altered = bytearray(pem_of(LIST))
    altered[place] ^= change
    try:
        lists = RevocationLists.read(bytes(altered))
        lists.check([ISSUER], NOW)
    except RevocationError:
        return
    assert lists.serials == {GONE.serial, 7}


def test_a_forged_list_is_refused() -> None:
    """A list in the issuing CA's name that another key signed is not believed."""
    forger = CertifiedKey(ISSUER, ec.generate_private_key(ec.SECP384R1()))
    forged = sign_crl(forger, (), number=9, now=NOW, life=CRL_LIFE)
    with pytest.raises(RevocationError, match="did not sign"):
        RevocationLists.read(pem_of(forged)).check([ISSUER], NOW)


@pytest.mark.parametrize(
    ("lists", "now", "reason"),
    [
        ([LIST], NOW + CRL_LIFE, "expired at .*`pki crl`"),
        ([LIST], NOW - timedelta(hours=1), "begins at .* clock"),
        ([LIST, _root_list(NOW - timedelta(minutes=2))], NOW + timedelta(days=410), "expired"),
        ([_root_list()], NOW, "no list of CN=issuing CA"),
        ([OTHER.crl((), number=1, now=NOW)], NOW, "no list of CN=issuing CA"),
    ],
)
def test_lists_that_cannot_be_used_say_why(
    lists: list[x509.CertificateRevocationList], now: datetime, reason: str
) -> None:
    """Expired, of the future, or of others: each is its own message."""
    with pytest.raises(RevocationError, match=reason):
        RevocationLists.read(pem_of(*lists)).check([ISSUER, ROOT], now)


def test_an_identity_takes_the_lists_with_it() -> None:
    """What an authority with lists issues carries them; without, there is no file."""
    assert AUTHORITY.issue("worker-1", Role.WORKER, now=NOW).crl_pem is None
    keeping = replace(AUTHORITY, crls=(LIST,))
    assert keeping.issue("worker-1", Role.WORKER, now=NOW).crl_pem == pem_of(LIST)
