"""`sbatch slurm/accept.sh` on a real Slurm: two nodes, a warning in the middle, a killed run through the queue, one page."""

from __future__ import annotations

import json

import pytest

from tests.slurm.checkout import Checkout
from tests.slurm.private_cluster import until

pytestmark = pytest.mark.slurm


@pytest.mark.slow
@pytest.mark.evidence(
    "`sbatch slurm/accept.sh` on two nodes: a warning of Slurm's sends it to the queue and it goes on, the killed run goes through "
    "the queue, one page without the nodes' names (short form)",
    how="slurm",
)
def test_the_short_form_on_two_nodes(checkout: Checkout) -> None:
    checkout.edit_cluster(CONFIG="configs/pretrain/quickstart.yaml")
    job, output = checkout.sbatch("accept", "--short", "--out", "runs/accepted")
    assert job, output
    folder = checkout.run_folder("accepted")
    until((folder / "log" / "exact.txt").is_file, 240, "the ranks to meet", lambda: checkout.explain(job))
    checkout.slurm.run("scancel", "--batch", "--signal=USR2", job)
    assert checkout.wait(job, limit=600) == "COMPLETED", checkout.explain(job)
    assert int(checkout.slurm.job(job)["Restarts"]) == 2, "once after the warning, once for the killed run"
    record = json.loads((folder / "acceptance.json").read_text())
    assert record["accepted"]
    assert (record["machine"]["nodes"], record["machine"]["ranks_per_node"]) == (2, 1)
    found = {check["name"]: check["found"] for check in record["checks"]}
    assert all(link["between_nodes"] for link in found["links"]["links"])
    assert all(case["right"] for case in found["exact"]["cases"])
    assert (found["kill"]["requeued"], found["kill"]["loss_difference"]) == (True, 0.0)
    told = (folder / "acceptance.html").read_text() + json.dumps(record)
    assert not [name for name in ("n1", "n2", str(checkout.root)) if f"{name} " in told or f"{name}<" in told]


@pytest.mark.evidence("An acceptance of 8 nodes x 8 GPUs passes `sbatch --test-only`", how="slurm")
def test_eight_nodes_of_eight_gpus(checkout: Checkout) -> None:
    checkout.edit_cluster(PARTITION="big", NODES=8, GPUS_PER_NODE=8, RANKS_PER_NODE="", CPUS_PER_NODE=96,
                          CONFIG="configs/pretrain/mimic_cxr.yaml")  # fmt: skip
    done = checkout.type("bash", "slurm/accept.sh", "--test-only")
    assert done.returncode == 0, done.stderr
    assert "big[1-8]" in done.stdout
    script = checkout.type("bash", "slurm/accept.sh", "--dry-run").stdout
    for line in ("nodes=8", "gpus-per-node=8", "signal=B:USR2@60", "requeue", "time=60"):
        assert f"#SBATCH --{line}\n" in script
