"""A private Slurm on this machine: `python -m tests.slurm.private_cluster FOLDER` starts one and prints how to use it.

Two nodes that run jobs (n1, n2) and eight that only exist for `sbatch --test-only` (big1 ... big8, 8 GPUs each). Ports are
free ones, every file lies in one folder, nothing in /etc is read. The database of `accounting=True` is a private MariaDB.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PACKAGES = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
"""Program -> Debian package."""
ACCOUNTING_PACKAGES = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
NODES = ("n1", "n2")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={prefix}/run/munge.sock,cred_expire=5
SlurmctldPort={controller}
SlurmctldPidFile={prefix}/run/slurmctld.pid
SlurmctldLogFile={prefix}/log/slurmctld.log
SlurmdPidFile={prefix}/run/slurmd-%n.pid
SlurmdLogFile={prefix}/log/slurmd-%n.log
SlurmdSpoolDir={prefix}/spool/%n
StateSaveLocation={prefix}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=300
JobRequeue=1
EnforcePartLimits=ALL
GresTypes=gpu
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={first} CPUs=16 RealMemory=4000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={second} CPUs=16 RealMemory=4000
NodeName=big[1-8] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{big}-{last}] CPUs=96 RealMemory=1000000 Gres=gpu:8 State=CLOUD
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 PriorityTier=1 GraceTime=20 PreemptMode=REQUEUE
PartitionName=high Nodes=n[1-2] MaxTime=60 PriorityTier=10 PreemptMode=OFF
PartitionName=big Nodes=big[1-8] MaxTime=7-0
"""
WITHOUT_ACCOUNTING = "JobAcctGatherType=jobacct_gather/none\n"
WITH_ACCOUNTING = """JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={database}
AccountingStoragePass={prefix}/run/munge.sock
"""
DATABASE = """AuthType=auth/munge
AuthInfo=socket={prefix}/run/munge.sock
DbdHost=localhost
DbdPort={database}
SlurmUser={user}
PidFile={prefix}/run/slurmdbd.pid
LogFile={prefix}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
"""


class SlurmUnavailable(Exception):
    """Slurm cannot be installed or started here; the text says why."""


class PrivateCluster:
    """A running Slurm; `stop` ends every process that belongs to it."""

    def __init__(self, prefix: Path, *, accounting: bool = False) -> None:
        """Install what is missing, and start. Raises SlurmUnavailable."""
        self._know(prefix)
        self._accounting = accounting
        install(PACKAGES | (ACCOUNTING_PACKAGES if accounting else {}))
        for name in ("etc", "run", "log", "state", "spool", "munge"):
            (prefix / name).mkdir(parents=True, exist_ok=True)
        prefix.chmod(0o755)  # munged refuses a socket that others cannot reach; so must be every folder above
        (prefix / "munge").chmod(0o700)
        (prefix / "spool" / "n1").mkdir()
        (prefix / "spool" / "n2").mkdir()
        try:
            self._configure()
            self._start()
        except BaseException:
            self.stop()
            raise
        # A killed pytest tears nothing down: its pipe closes, and the guard does.
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "tests.slurm.private_cluster", "--guard", str(prefix)],
            stdin=subprocess.PIPE, cwd=Path(__file__).resolve().parents[2], start_new_session=True,
        )  # fmt: skip

    @classmethod
    def attach(cls, prefix: Path) -> PrivateCluster:
        """Return the cluster of a folder, to stop it."""
        cluster = cls.__new__(cls)
        cluster._know(prefix)
        return cluster

    def _know(self, prefix: Path) -> None:
        self.prefix = prefix
        self.conf = prefix / "etc" / "slurm.conf"
        self.environment = {
            "SLURM_CONF": str(self.conf),
            "PATH": f"{os.environ.get('PATH', '')}{os.pathsep}{SYSTEM_PATH}",
        }
        self._database: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def run(self, *words: str, limit: float = 60, check: bool = True, cwd: Path | None = None) -> str:
        """Run a command of Slurm's within a time limit; return what it printed."""
        done = subprocess.run(
            words, env=self.variables(), cwd=cwd, text=True, timeout=limit, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def variables(self) -> dict[str, str]:
        """Return this process's environment with the private cluster in the place of any other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))}
        return kept | self.environment

    def job(self, job: str) -> dict[str, str]:
        """Return what scontrol says of a job; empty when it knows none."""
        text = self.run("scontrol", "show", "job", "-o", job, check=False)
        return dict(word.split("=", 1) for word in text.split() if "=" in word) if "JobId=" in text else {}

    def start_node(self, name: str) -> None:
        """Start a node's daemon."""
        self.run("slurmd", "-f", str(self.conf), "-N", name)

    def kill_node(self, name: str, *, job: str | None = None) -> None:
        """Kill a node's daemon by SIGKILL; with `job` also everything that the job has on the node."""
        pid = int((self.prefix / "run" / f"slurmd-{name}.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        if job is not None:
            for process in self.processes_of(job, name):
                kill_quietly(process)

    def processes_of(self, job: str, node: str) -> list[int]:
        """Return the processes of a job's steps on a node, the step's manager first."""
        managers = [
            pid for pid, title in _titles() if title.startswith(f"slurmstepd: [{job}.") and self._on_node(pid, node)
        ]
        tasks = [
            pid
            for pid, _ in _titles()
            if (variables := _environment(pid)).get("SLURM_JOB_ID") == job and variables.get("SLURMD_NODENAME") == node
            and variables.get("SLURM_CONF") == str(self.conf) and "SLURM_STEP_ID" in variables
        ]  # fmt: skip
        return [*managers, *tasks]

    def _on_node(self, manager: int, node: str) -> bool:
        return any(
            _environment(child).get("SLURMD_NODENAME") == node
            and _environment(child).get("SLURM_CONF") == str(self.conf)
            for child in _children(manager)
        )

    def empty(self) -> None:
        """Cancel all jobs, start nodes that were killed, and wait until the cluster is idle."""
        self.run("scancel", "--full", "--user", _user())
        until(lambda: not self.run("squeue", "-h"), 60, "an empty queue", self.logs)
        for name in NODES:
            if not self._node_alive(name):
                self.start_node(name)
        self.wait_idle()

    def _node_alive(self, name: str) -> bool:
        file = self.prefix / "run" / f"slurmd-{name}.pid"
        return file.is_file() and not _is_zombie(int(file.read_text()))

    def wait_idle(self, limit: float = 60) -> None:
        """Wait until both nodes are idle."""
        until(lambda: self._idle() == len(NODES), limit, "both nodes idle", self.logs)

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        files = sorted((self.prefix / "log").glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def stop(self) -> None:
        """Cancel all jobs and end every process that was started from this folder."""
        if (self.prefix / "run" / "slurmctld.pid").is_file():
            self._quietly("scancel", "--full", "--user", _user())
            try:
                until(lambda: not self._quietly("squeue", "-h"), 20, "an empty queue", self.logs)
            except AssertionError:
                sys.stderr.write("jobs of the private Slurm did not end; they are killed\n")
            self._quietly("scontrol", "shutdown")
        deadline = time.monotonic() + 2
        while (left := self._own_processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if self._database is not None:
            self._database.terminate()
            self._database.wait(timeout=30)
        self._quietly("munged", "--stop", f"--socket={self.prefix}/run/munge.sock")
        for process in left:
            kill_quietly(process)
        if self._guard is not None:
            self._guard.communicate(b"stopped", timeout=30)

    def _own_processes(self) -> list[int]:
        return [
            pid
            for pid, title in _titles()
            if pid != os.getpid() and (str(self.conf) in title or _environment(pid).get("SLURM_CONF") == str(self.conf))
            and not _is_zombie(pid)
        ]  # fmt: skip

    def _quietly(self, *words: str) -> str:
        try:
            return self.run(*words, limit=30, check=False)
        except (OSError, subprocess.SubprocessError):
            return ""

    def _configure(self) -> None:
        base = free_ports(14)
        values = {
            "prefix": self.prefix, "user": _user(), "controller": base, "first": base + 1, "second": base + 2,
            "database": base + 3, "big": base + 4, "last": base + 11,
        }  # fmt: skip
        key = self.prefix / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        accounting = WITH_ACCOUNTING if self._accounting else WITHOUT_ACCOUNTING
        self.conf.write_text((CONFIGURATION + accounting).format(**values))
        (self.prefix / "etc" / "gres.conf").write_text("NodeName=big[1-8] Name=gpu Count=8\n")
        database = self.prefix / "etc" / "slurmdbd.conf"
        database.touch(mode=0o600)
        database.write_text(DATABASE.format(**values))

    def _start(self) -> None:
        munge = self.prefix / "munge"
        self.run(
            "munged", f"--socket={self.prefix}/run/munge.sock", f"--key-file={munge}/key",
            f"--log-file={self.prefix}/log/munged.log", f"--pid-file={munge}/munged.pid", f"--seed-file={munge}/seed",
        )  # fmt: skip
        if self._accounting:
            self._start_database()
        self.run("slurmctld", "-f", str(self.conf))
        until(lambda: "is UP" in self._quietly("scontrol", "ping"), 30, "slurmctld answers", self.logs)
        for name in NODES:
            self.start_node(name)
        self.wait_idle()

    def _start_database(self) -> None:
        data, sock = self.prefix / "db", self.prefix / "run" / "database.sock"
        self.run(
            "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
            f"--user={_user()}", limit=120,
        )  # fmt: skip
        log = open(self.prefix / "log" / "database.log", "wb")  # noqa: SIM115 - the process keeps it
        self._database = subprocess.Popen(
            ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={sock}", f"--pid-file={data}/pid",
             f"--user={_user()}", "--skip-networking"],
            stdout=log, stderr=log, env=self.variables(),
        )  # fmt: skip
        until(sock.exists, 60, "the database answers", self.logs)
        self.environment["MYSQL_UNIX_PORT"] = str(sock)
        self.run("slurmdbd")
        until(lambda: "Cluster" in self._quietly("sacctmgr", "show", "cluster"), 60, "slurmdbd answers", self.logs)

    def _idle(self) -> int:
        return self._quietly("sinfo", "-h", "-p", "main", "-N", "-o", "%t").split().count("idle")


def install(packages: dict[str, str]) -> None:
    """Install the Debian packages of the programs that are missing, where that was asked for. Raises SlurmUnavailable."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}{SYSTEM_PATH}"
    wanted = [package for program, package in packages.items() if not shutil.which(program, path=path)]
    if not wanted:
        return
    if not (os.environ.get("MSVL_CI") or os.environ.get("MSVL_SLURM") == "install"):
        raise SlurmUnavailable(
            f"{', '.join(wanted)} not installed; MSVL_SLURM=install lets the tests install them (root on Debian)"
        )
    if os.getuid() != 0 or not shutil.which("apt-get", path=path):
        raise SlurmUnavailable(f"Slurm is not here and only root on Debian can install {', '.join(wanted)}")
    variables = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "PATH": path}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *wanted]):
        done = subprocess.run(
            ["apt-get", "-qq", *words], env=variables, text=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise SlurmUnavailable(f"apt-get {' '.join(words)} failed: {done.stdout[-500:]}")


def until(condition: Callable[[], object], limit: float, what: str, explain: Callable[[], str] = str) -> None:
    """Wait for a condition; fail with what was waited for and an explanation."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit:g} s: {what}\n{explain()}")
        time.sleep(0.1)


def free_ports(count: int) -> int:
    """Return the first of `count` neighbouring ports that are free now, below the range that the system hands out."""
    for _ in range(200):
        base = random.randrange(21000, 32000)
        probes: list[socket.socket] = []
        try:
            for port in range(base, base + count):
                probes.append(socket.socket())
                probes[-1].bind(("", port))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return base
    raise SlurmUnavailable("no free ports")


def kill_quietly(process: int) -> None:
    """SIGKILL a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _titles() -> list[tuple[int, str]]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append(
                (int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            )
        except OSError:
            continue
    return found


def _environment(pid: int) -> dict[str, str]:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(word.decode(errors="replace").split("=", 1) for word in words if b"=" in word)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in listing.read_text().split()]
        except OSError:
            continue
    return found


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def main(arguments: Sequence[str]) -> int:
    """Start a cluster in a folder and stop it on Ctrl-C; with --guard, stop the one that is there when standard input ends."""
    if arguments[0] == "--guard":
        if not sys.stdin.read():
            PrivateCluster.attach(Path(arguments[1])).stop()
            shutil.rmtree(arguments[1], ignore_errors=True)
        return 0
    cluster = PrivateCluster(Path(arguments[0]).resolve(), accounting="--accounting" in arguments)
    sys.stdout.write(f"export SLURM_CONF={cluster.conf}   # Ctrl-C here ends the cluster\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
