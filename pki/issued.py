"""An identity as it leaves the authority: three PEM texts, and where they go on a disk."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from pki.files import TlsFiles, create_directory, replace_file
from pki.identity import Identity


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key and the roots to trust."""

    identity: Identity
    certificate: x509.Certificate
    certificate_pem: bytes  # the leaf, then the issuing CA
    key_pem: bytes = field(repr=False)
    ca_pem: bytes  # every trusted root

    def write(self, directory: Path, *, replace: bool = False) -> TlsFiles:
        """Write `directory/NAME/{certificate.pem,key.pem,ca.pem}`: all three, or none.

        Raises `StoreError` when NAME is there already, unless `replace` says that its key may go. Replacing
        is one file at a time: a daemon that reads in between sees a pair that does not match and keeps what
        it has.
        """
        target = directory / self.identity.name
        files = TlsFiles.in_directory(target)
        contents = {
            files.ca: (self.ca_pem, 0o644),
            files.key: (self.key_pem, 0o600),
            files.certificate: (self.certificate_pem, 0o644),
        }
        if replace and target.is_dir():
            for path, (data, mode) in contents.items():
                replace_file(path, data, mode)
        else:
            create_directory(target, {path.name: content for path, content in contents.items()}, mode=0o755)
        return files
