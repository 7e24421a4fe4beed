"""The keys that a worker offers to prove with."""

from pathlib import Path

import pytest

from tests.unit.proofs.test_keystore import write_forgeable
from tests.unit.proofs.test_verifying_key import FORGEABLE
from worker.errors import KeysError
from worker.service import proving_keys


def test_a_worker_does_not_start_with_a_key_with_which_proofs_can_be_forged(tmp_path: Path) -> None:
    """The reason names the key's file and what is wrong with it."""
    change, words = FORGEABLE["no contribution"]
    path = write_forgeable(tmp_path, change)

    with pytest.raises(KeysError, match=words) as refused:
        proving_keys(tmp_path)

    assert str(path) in str(refused.value)
