"""Submit a task, wait for its proof, and verify the proof with the exported verifying key.

Start a local cluster first, and export the key, which is all that a verifier needs:

    zkp local up
    zkp circuits export addition --keys .zkp/keys --out verification_key.json
    python examples/submit_and_verify.py

ZKP_COORDINATORS and ZKP_IDENTITY name another cluster, as for the `zkp` command.
"""

import asyncio
import os
from pathlib import Path

from zkp.client import Client
from zkp.client.model import Task
from zkp.client.task_json import proof_document
from zkp.proofs.document import verify_document

COORDINATORS = os.environ.get("ZKP_COORDINATORS", "127.0.0.1:17011,127.0.0.1:17012,127.0.0.1:17013").split(",")
IDENTITY = Path(os.environ.get("ZKP_IDENTITY", ".zkp/identities/client"))
VERIFYING_KEY = Path("verification_key.json")


async def prove() -> Task:
    """Prove that two private numbers have the sum 42."""
    async with Client(COORDINATORS, IDENTITY) as client:
        submitted = await client.submit("addition", {"a": 20, "b": 22})
        return await client.wait(submitted.id)


def main() -> None:
    """Print what the proof states, once it has been verified."""
    task = asyncio.run(prove())
    if task.error is not None:
        raise SystemExit(f"task {task.id}: {task.state}: {task.error.message}")
    result = verify_document(proof_document(task), VERIFYING_KEY.read_text(encoding="utf-8"))
    if not result.valid:
        raise SystemExit(f"task {task.id}: the proof is not valid: {result.reason}")
    print(result.statement)


if __name__ == "__main__":
    main()
