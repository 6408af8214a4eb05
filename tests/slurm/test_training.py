"""`sbatch slurm/pretrain.sh` on a real Slurm: two nodes, time limits, preemption, dead nodes, dead ranks, scancel."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from launch.restarts import newest_step
from msvl.monitoring.wandb_file import history
from msvl.training.finished import complete_checkpoints, verify
from tests.helpers.runs import launch, losses, tiny_config
from tests.slurm.checkout import Checkout
from tests.slurm.private_cluster import until

pytestmark = pytest.mark.slurm

STEPS, SAVE_EVERY = 60, 10
LONG: dict[str, dict] = {
    "train": {"steps": STEPS, "save_every": SAVE_EVERY},
}
"""Long enough for something to happen to it."""
WITH_LOADER = "data.workers=1"
"""A loader process beside each rank, which hears every signal too."""


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def is_rank(pid: int) -> bool:
    return b"\0LOCAL_RANK=" in Path(f"/proc/{pid}/environ").read_bytes()


def facts(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


@pytest.mark.evidence(
    "`sbatch slurm/pretrain.sh` trains the config of cluster.env across two nodes with ZeRO-2", how="slurm"
)
def test_two_nodes_train_with_zero_2(checkout: Checkout) -> None:
    checkout.edit_cluster()
    checkout.write_config(zero={"stage": 2}, train={"steps": 8})
    job, output = checkout.sbatch("pretrain")
    assert job, output
    assert checkout.wait(job) == "COMPLETED", checkout.explain(job)
    run = checkout.run_folder()
    found = facts(run)["facts"]
    assert (found["zero_stage"], found["ranks"]) == (2, 2)
    assert [step for step, _, _ in losses(run)] == list(range(1, 9))
    assert len(list((run / "checkpoints" / "step-00000008" / "engine").glob("*optim_states.pt"))) == 2
    (start,) = checkout.starts()
    assert start["nodes"] == ["n1", "n2"]
    assert start["reason"] == "finished 8 of 8 steps"
    assert "pre-flight: 2 nodes see each other" in checkout.output(job)


@pytest.fixture(scope="module")
def uninterrupted(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list:
    """Steps, losses and samples of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    config = tiny_config(folder / "whole.yaml", data=tiny_set, runs=folder, name="whole", **LONG)
    done = launch(config, WITH_LOADER)
    assert done.code == 0, done.output[-3000:]
    return losses(folder / "whole")


def started(checkout: Checkout, *words: str, step: int = 5, **cluster: object) -> str:
    """Submit the long run and wait until it has trained some steps; return its job."""
    checkout.edit_cluster(**cluster)
    checkout.write_config(**LONG)
    job, output = checkout.sbatch("pretrain", WITH_LOADER, *words)
    assert job, output
    checkout.wait_for_step(step, job=job)
    return job


def resumed_equals(checkout: Checkout, job: str, uninterrupted: list) -> None:
    """The job ends well, and the losses and samples of its starts together are those of one run, to the bit."""
    assert checkout.wait(job, limit=200) == "COMPLETED", checkout.explain(job)
    assert int(checkout.slurm.job(job)["Restarts"]) >= 1
    assert losses(checkout.run_folder()) == uninterrupted
    assert checkout.starts()[-1]["reason"] == f"finished {STEPS} of {STEPS} steps"


@pytest.mark.evidence(
    "A warning before the time limit: step finished, saved, requeued, resumed; losses to the bit", how="slurm"
)
def test_a_warning_before_the_time_limit(checkout: Checkout, uninterrupted: list) -> None:
    job = started(checkout, "wandb.enabled=true")
    # What --signal=B:USR2@300 makes Slurm do: the batch process alone hears it.
    checkout.slurm.run("scancel", "--batch", "--signal=USR2", job)
    resumed_equals(checkout, job, uninterrupted)
    first = checkout.starts()[0]
    assert first["asked"]
    assert "stopped by SIGUSR2" in first["reason"]
    identity = (checkout.run_folder() / "wandb" / "run-id").read_text()
    fragments = [path.name for path in checkout.run_folder().glob("wandb/**/offline-run-*") if path.is_dir()]
    assert len(fragments) >= 2
    assert {name.rpartition("-")[2] for name in fragments} == {identity}
    files = sorted(checkout.run_folder().rglob(f"run-{identity}.wandb"))
    assert [row["step"] for path in files for row in history(path)] == list(range(1, STEPS + 1))


@pytest.mark.evidence("Preemption by a higher partition: saved within the grace time, requeued, resumed", how="slurm")
def test_preemption_by_a_higher_partition(checkout: Checkout, uninterrupted: list) -> None:
    job = started(checkout)
    checkout.slurm.run("sbatch", "-p", "high", "-N2", "--exclusive", "-t1", "-o", "/dev/null", "--wrap", "sleep 3")
    resumed_equals(checkout, job, uninterrupted)
    assert "stopped by SIGTERM" in checkout.starts()[0]["reason"], checkout.starts()


@pytest.mark.evidence("A killed rank: the job goes back to the queue and resumes from the last checkpoint", how="slurm")
def test_a_killed_rank(checkout: Checkout, uninterrupted: list) -> None:
    job = started(checkout, step=SAVE_EVERY + 2)
    rank = next(
        pid for pid in checkout.slurm.processes_of(job, "n2") if "msvl/train.py" in command_line(pid) and is_rank(pid)
    )
    os.kill(rank, signal.SIGKILL)
    resumed_equals(checkout, job, uninterrupted)
    first = checkout.starts()[0]
    assert not first["asked"]
    assert "training died" in first["reason"]


@pytest.mark.evidence("A killed node: Slurm requeues the job, it resumes from the last checkpoint", how="slurm")
def test_a_killed_node(checkout: Checkout, uninterrupted: list) -> None:
    job = started(checkout, step=SAVE_EVERY + 2)
    checkout.slurm.kill_node("n2", job=job)
    checkout.wait(job, limit=90, states={"PENDING"})
    checkout.slurm.start_node("n2")
    resumed_equals(checkout, job, uninterrupted)


@pytest.mark.slow
@pytest.mark.evidence("A killed node daemon whose tasks live on: Slurm requeues the job, it resumes", how="slurm")
@pytest.mark.parametrize("node", ["n2", pytest.param("n1", id="n1-with-the-batch-process")])
def test_a_killed_node_daemon(node: str, checkout: Checkout) -> None:
    steps = 20 * STEPS  # Slurm needs 25 s to notice
    checkout.edit_cluster()
    checkout.write_config(train={"steps": steps, "save_every": 50})
    job, output = checkout.sbatch("pretrain")
    assert job, output
    checkout.wait_for_step(60, job=job)
    checkout.slurm.kill_node(node)
    checkout.wait(job, limit=90, states={"PENDING"})
    assert newest_step(checkout.run_folder()) < steps
    checkout.slurm.start_node(node)
    assert checkout.wait(job, limit=400) == "COMPLETED", checkout.explain(job)
    assert int(checkout.slurm.job(job)["Restarts"]) == 1, "a start that lived on has put the job back once more"
    assert len(checkout.starts()) == 2
    assert [step for step, _, _ in losses(checkout.run_folder())] == list(range(1, steps + 1))


@pytest.mark.slow
@pytest.mark.evidence(
    "Slurm's own clock: the warning of `--signal` near the time limit requeues, the run resumes", how="slurm"
)
def test_the_time_limit_itself(checkout: Checkout) -> None:
    steps = 12 * STEPS
    # With a limit of one minute Slurm warns 0 to 30 s after the start.
    checkout.edit_cluster(TIME=1, SIGNAL_SECONDS=30)
    checkout.write_config(train={"steps": steps, "save_every": steps})
    job, output = checkout.sbatch("pretrain")
    assert job, output
    until(lambda: checkout.slurm.job(job)["Restarts"] != "0", 150, "a requeue", lambda: checkout.explain(job))
    checkout.slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    assert checkout.wait(job, limit=400) == "COMPLETED", checkout.explain(job)
    first, *_ = checkout.starts()
    assert first["asked"], first
    assert first["reason"].startswith("stopped by"), first
    assert [step for step, _, _ in losses(checkout.run_folder())] == list(range(1, steps + 1))


@pytest.mark.evidence(
    "`scancel` leaves a good checkpoint, the job does not come back, and the run can go on with another number of nodes",
    how="slurm",
)
def test_scancel_leaves_a_good_checkpoint(checkout: Checkout) -> None:
    job = started(checkout, step=SAVE_EVERY + 2)
    checkout.slurm.run("scancel", job)
    assert checkout.wait(job) == "CANCELLED"
    newest = complete_checkpoints(checkout.run_folder() / "checkpoints")[-1]
    verify(newest)
    again = checkout.type(
        sys.executable,
        "-m",
        "launch.pretrain",
        f"{checkout.run_folder()}/slurm/config.yaml",
        "--resume",
        "--nodes",
        "1",
    )
    assert again.returncode == 0, again.stderr
    assert checkout.wait(again.stdout.strip()) == "COMPLETED", checkout.explain(again.stdout.strip())
    assert newest_step(checkout.run_folder()) == STEPS
    assert [attempt["ranks"] for attempt in facts(checkout.run_folder())["attempts"]] == [2, 1]
    assert [step for step, _, _ in losses(checkout.run_folder())] == list(range(1, STEPS + 1))


@pytest.mark.evidence("A crash loop stops after N restarts without progress and says why", how="slurm")
def test_a_crash_loop_is_given_up(checkout: Checkout) -> None:
    checkout.edit_cluster(MAX_RESTARTS=1, PREFLIGHT="no")
    checkout.write_config()
    broken = checkout.root / "msvl" / "training" / "run.py"
    broken.write_text(broken.read_text() + "\nraise RuntimeError('broken on purpose')\n")
    job, output = checkout.sbatch("pretrain")
    assert job, output
    assert checkout.wait(job, limit=200) == "FAILED", checkout.explain(job)
    told = checkout.output(job)
    assert "broken on purpose" in told
    assert (
        "given up after 2 starts in a row without a new checkpoint (the newest is step 0): on n1,n2: training died"
        in told
    )
    assert len(checkout.starts()) == 2


@pytest.mark.evidence("A mistake that only the user can cure ends the job at once, without a requeue", how="slurm")
def test_a_users_mistake_is_not_requeued(checkout: Checkout) -> None:
    checkout.edit_cluster(MIN_FREE_GB=10**9)
    checkout.write_config()
    job, output = checkout.sbatch("pretrain")
    assert job, output
    assert checkout.wait(job) == "FAILED", checkout.explain(job)
    told = checkout.output(job)
    for node in ("n1", "n2"):
        assert f"{node}: " in told
    assert "MIN_FREE_GB asks for 1e+09" in told
    assert len(checkout.starts()) == 1


@pytest.mark.evidence("An unedited slurm/cluster.env is refused in one sentence at once", how="slurm")
def test_an_unedited_cluster_env_is_refused(checkout: Checkout) -> None:
    path = checkout.root / "slurm" / "cluster.env"
    path.write_text(path.read_text().replace(".venv/bin/python", sys.executable))
    job, output = checkout.sbatch("pretrain")
    assert not job
    assert output.strip().splitlines()[-1].startswith("msvl: slurm/cluster.env has not been edited: PARTITION")
    typed = checkout.type("bash", "slurm/pretrain.sh")
    assert typed.returncode == 2
    assert typed.stderr.strip().startswith("msvl: slurm/cluster.env has not been edited: PARTITION")


@pytest.mark.evidence("One task per rank by srun, without a launcher, trains as accelerate does", how="slurm")
def test_one_task_per_rank(checkout: Checkout) -> None:
    checkout.edit_cluster(START="srun")
    checkout.write_config(zero={"stage": 2}, train={"steps": 4})
    job, output = checkout.sbatch("pretrain")
    assert job, output
    assert checkout.wait(job) == "COMPLETED", checkout.explain(job)
    found = facts(checkout.run_folder())["facts"]
    assert (found["zero_stage"], found["ranks"]) == (2, 2)


@pytest.mark.evidence("An 8-node x 8-GPU job passes `sbatch --test-only`", how="slurm")
@pytest.mark.parametrize("gpu_option", ["gpus-per-node", "gres"])
def test_eight_nodes_of_eight_gpus(checkout: Checkout, gpu_option: str) -> None:
    checkout.edit_cluster(PARTITION="big", NODES=8, GPUS_PER_NODE=8, RANKS_PER_NODE="", CPUS_PER_NODE=96, MEMORY_PER_NODE="900G",
                          TIME="2-00:00:00", GPU_OPTION=gpu_option)  # fmt: skip
    checkout.write_config(train={"global_batch": 64})
    script = checkout.type(sys.executable, "-m", "launch.pretrain", "--dry-run")
    assert script.returncode == 0, script.stderr
    option = "gpus-per-node=8" if gpu_option == "gpus-per-node" else "gres=gpu:8"
    for line in ("nodes=8", "ntasks-per-node=1", option, "signal=B:USR2@60", "requeue", "open-mode=append", "mem=900G"):
        assert f"#SBATCH --{line}\n" in script.stdout
    taken = checkout.type(sys.executable, "-m", "launch.pretrain", "--test-only")
    assert taken.returncode == 0, taken.stderr
    assert "big[1-8]" in taken.stdout
    checkout.edit_cluster(PARTITION="big", NODES=9, GPUS_PER_NODE=8, RANKS_PER_NODE="", CPUS_PER_NODE=96)
    refused = checkout.type(
        sys.executable, "-m", "launch.pretrain", "--test-only", "train.global_batch=72", "data.lanes=72"
    )
    assert refused.returncode == 2
    assert "Slurm would refuse the job" in refused.stderr
