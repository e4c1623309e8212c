"""A SLURM of one node with two pretend GPUs, for tests. Run as a module: `python -m tests.slurm.cluster install|stop`.

SLURM's programs look for their configuration in /etc/slurm. (Another path through SLURM_CONF does not reach the steps
of a job: Snakemake's plugin strips SLURM's variables there.) So it takes root, and a machine that has no SLURM of its
own: a slurm.conf that these tests did not write is never touched.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
PROGRAMS = ["slurmctld", "slurmd", "sbatch", "munged"]
CONFIGURATION = Path("/etc/slurm/slurm.conf")
GPUS = Path("/etc/slurm/gres.conf")
# There is one such cluster on a machine at a time: whoever holds the lock may start and stop it.
FOLDER = Path("/run/perturbflow-slurm")
LOCK = Path("/run/perturbflow-slurm.lock")
# In the environment of every Snakemake of these tests and so of its jobs, by which `stop` finds what is left of them.
MARK = "PERTURBFLOW_TESTS_SLURM"
SIGNATURE = "# Written by perturbflow's tests/slurm, which remove it again."
N_GPUS = 2

# Two GPUs that are none: SLURM wants devices of characters. It gives out 64 GB and 8 cores whatever the machine has
# (config_overrides), so that jobs that ask for what a real cluster has are not refused. A job that takes more memory
# than it asked for is ended (OverMemoryKill), looked at every second.
SLURM_CONF = """{signature}
ClusterName=perturbflow-tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=3600
KillWait=5
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=65536 Gres=gpu:pretend:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES State=UP
PartitionName=gpu Nodes={host} State=UP
"""
GRES_CONF = f"""{SIGNATURE}
AutoDetect=off
Name=gpu Type=pretend File=/dev/null
Name=gpu Type=pretend File=/dev/zero
"""


def problem(ignore_missing: bool = False) -> str | None:
    """Why no cluster can be started here, or nothing where one can; ignore_missing: once SLURM is installed."""
    if os.geteuid() != 0:
        return "only root can start a SLURM: it writes /etc/slurm/slurm.conf"
    if foreign := [path for path in (CONFIGURATION, GPUS) if path.exists() and not _is_ours(path)]:
        return f"{foreign[0]} is there already: this machine belongs to a cluster, which stays as it is"
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return "there is a real GPU: jobs would compute on it, and not make the same files bit for bit"
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing and not ignore_missing:
        return f"no {', '.join(missing)}: `make test-slurm` installs SLURM where there is apt-get"
    return None


def _is_ours(path: Path) -> bool:
    return path.read_text(encoding="utf-8").startswith(SIGNATURE)


def install() -> None:
    """Install SLURM from the packages of Debian or Ubuntu. Raises SystemExit where that cannot be."""
    if problem() and not problem(ignore_missing=True) and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *command], env=quiet, check=True, timeout=600)
    if reason := problem():
        raise SystemExit(f"SLURM cannot be tested here: {reason}")


def start() -> None:
    """Start the cluster and wait until its node is idle; clean up first what a killed run of the tests left.

    Raises RuntimeError with the end of SLURM's logs where it does not come up.
    """
    stop()
    for name in ("state", "spool"):
        (FOLDER / name).mkdir(parents=True)
    host = socket.gethostname().split(".")[0]
    CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
    CONFIGURATION.write_text(SLURM_CONF.format(signature=SIGNATURE, host=host, folder=FOLDER), encoding="utf-8")
    GPUS.write_text(GRES_CONF, encoding="utf-8")
    try:
        if subprocess.run(["munge", "--no-input"], capture_output=True, timeout=30).returncode != 0:
            # Of its own, for the pid in our folder says that it is ours to end.
            shutil.chown(FOLDER, "munge", "munge")
            subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge"], check=True)
            as_munge = ["runuser", "-u", "munge", "--"]
            subprocess.run([*as_munge, "munged", f"--pid-file={FOLDER}/munged.pid"], check=True, timeout=30)
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon], check=True, timeout=30)
        wait_until(lambda: run("sinfo", "-h", "-o", "%T", check=False).strip() == "idle", 120, "the node is not idle")
    except BaseException as error:
        logs = ends_of_logs()
        stop()
        if isinstance(error, (subprocess.SubprocessError, TimeoutError)):
            raise RuntimeError(f"SLURM did not start: {error}\n{logs}") from error
        raise


def ends_of_logs() -> str:
    """The last of what SLURM's daemons logged."""
    return "\n".join(f"{path}:\n{path.read_text(encoding='utf-8')[-5000:]}" for path in sorted(FOLDER.glob("*.log")))


def end_jobs() -> None:
    """End all jobs, those that are suspended as well. Raises TimeoutError where they do not end."""
    run("scancel", "--signal=KILL", "--full", "--user=root", check=False)
    run("scancel", "--user=root", check=False)
    wait_until(lambda: not run("squeue", "-h", check=False).strip(), 60, "jobs have not ended")


@contextmanager
def running() -> Iterator[None]:
    """The cluster, while the block lasts. Raises RuntimeError where another process has it."""
    with _alone():
        start()
        try:
            yield
        finally:
            stop()


@contextmanager
def _alone() -> Iterator[None]:
    """While open, no other process may start or stop the cluster. Raises RuntimeError where one has done so."""
    try:
        with FileLock(LOCK, blocking=False):
            yield
    except Timeout as error:
        raise RuntimeError("other tests that still run have the cluster") from error


def stop() -> None:
    """End all jobs and the cluster, and remove its files; does nothing where none of ours is there."""
    if _process("slurmctld"):
        try:
            end_jobs()
        except (TimeoutError, subprocess.SubprocessError) as error:
            print(error, file=sys.stderr)
    _end([process for name in ("slurmd", "slurmctld", "munged") if (process := _process(name))])
    _end(list(_marked_processes()))
    for path in (CONFIGURATION, GPUS):
        if path.exists() and _is_ours(path):
            path.unlink()
    if FOLDER.exists():
        shutil.rmtree(FOLDER)


def _process(daemon: str) -> psutil.Process | None:
    """The daemon of this name that the cluster has, while it lives."""
    try:
        process = psutil.Process(int((FOLDER / f"{daemon}.pid").read_text(encoding="utf-8")))
        return process if process.name() == daemon else None
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def _marked_processes() -> Iterator[psutil.Process]:
    """What is left of the tests' Snakemakes and jobs."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and MARK in process.environ():
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _end(processes: list[psutil.Process]) -> None:
    """Ask processes to end, and kill those that have not after ten seconds."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in (alive := psutil.wait_procs(processes, timeout=10)[1]):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=10)


def run(*command: str, check: bool = True) -> str:
    """What a command printed, within a minute."""
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60).stdout


def wait_until(condition: Callable[[], Any], seconds: float, otherwise: str) -> Any:
    """Wait for a condition to be true of other processes, and give its value. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{otherwise} after {seconds} s")
        time.sleep(0.05)
    return value


if __name__ == "__main__":
    if sys.argv[1:] == ["install"]:
        install()
    elif sys.argv[1:] == ["stop"]:
        try:
            with _alone():
                stop()
        except RuntimeError as error:
            raise SystemExit(f"SLURM is not stopped: {error}") from error
    else:
        raise SystemExit("python -m tests.slurm.cluster install|stop")
