"""A job in several processes, one a device of this machine, which train one network together."""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from perturbflow.machine.devices import select_devices, set_up

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Processes:
    """One process among `count` that train together; its `number` counts from 0. Alone, nothing here costs anything.

    What the processes decide by must have gone through `mean` or `total`, so that they decide alike.
    """

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.number == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch, which is as large as every other's: a view along the last dimension.

        Raises ValueError where the batch cannot be shared equally: the mean gradient would not be that of the batch.
        """
        size = batch.shape[-1]
        if size % self.count:
            raise ValueError(f"a batch of {size} images cannot be shared equally by {self.count} processes")
        part = size // self.count
        return batch.narrow(-1, self.number * part, part)

    def rows(self, n_rows: int) -> slice:
        """This process's rows of so many; the parts differ by one at most."""
        return slice(self.number * n_rows // self.count, (self.number + 1) * n_rows // self.count)

    def replicated(self, network: nn.Module) -> nn.Module:
        """The network whose backward pass averages the gradients over the processes; alone, the network itself.

        Both have the same weights. On CUDA the batch normalisations of `network` are replaced by ones that see the
        whole batch, with the same weights under the same names. On a CPU torch has none: there each process normalises
        its own share, and the statistics for evaluation are the first one's.
        """
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if self.count == 1 or not trained:
            return network
        if trained[0].is_cuda:
            network = _synchronised(network)
        elif any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
            logger.warning("On a CPU batch normalisation sees each process's share of a batch alone.")
        # What a forward pass leaves out, such as the head of a network used for its features, has no gradient.
        return DistributedDataParallel(network, forward_sync_buffers=False, static_graph=True)

    def agree_on_buffers(self, network: nn.Module) -> None:
        """Give every process the first one's buffers, such as the statistics of batch normalisation."""
        if self.count > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    def mean(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The mean over the processes of each of some numbers, the same in all of them."""
        if self.count == 1:
            return values
        sums = torch.stack(values)
        distributed.all_reduce(sums)
        return tuple(sums / self.count)

    def total(self, number: int, device: torch.device) -> int:
        """The sum over the processes of a whole number, the same in all of them."""
        if self.count == 1:
            return number
        total = torch.tensor(number, device=device)
        distributed.all_reduce(total)
        return int(total)


ALONE = Processes()


def _synchronised(network: nn.Module) -> nn.Module:
    """The same network with batch normalisations that see the whole batch; its layers are replaced in place."""
    # timm's, which knows its layers that are normalisation and activation in one. Imported late: most denoisers need no
    # timm.
    from timm.layers import convert_sync_batchnorm

    synchronised: nn.Module = convert_sync_batchnorm(network)
    return synchronised


def check_shares(key: str, batch_size: int, n_images: int, n_processes: int) -> None:
    """Raise ValueError, naming the config's `key`, where the processes cannot share a batch equally."""
    if batch_size % n_processes:
        raise ValueError(
            f"{key}: a batch of {batch_size} images cannot be shared equally by {n_processes} devices "
            "(the job's resource gpu); change one of the two"
        )
    if min(batch_size, n_images) % n_processes:
        raise ValueError(f"{key}: the {n_images} images there are cannot be shared equally by {n_processes} devices")


def run_on_devices(job: Callable[..., None], device: str, n_devices: int, threads: int, *arguments: Any) -> None:
    """Call `job(*arguments, device, processes)` in as many processes as it has devices.

    device: as `compute.device`. threads: of all processes together. One device is this process's own. For several,
    torchrun's launcher starts as many others, on this machine; `job` must be a function that can be imported, and what
    it is given must be picklable. They write into this process's stdout and stderr, and end with it.
    Raises ValueError where there are too few devices, and torch's ChildFailedError, with the traceback of the process
    that failed first, where one fails; the others are ended.
    """
    devices = select_devices(device, n_devices)
    if n_devices == 1:
        set_up(devices[0], threads)
        job(*arguments, devices[0], ALONE)
        return
    # Here, because a job on one device does not need them.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logger.info("training in %d processes, on %s", n_devices, ", ".join(map(str, devices)))
    with _package_in_python_path(), tempfile.TemporaryDirectory(prefix="perturbflow-") as folder:
        call = Path(folder) / "call.pickle"
        call.write_bytes(pickle.dumps((job, arguments, devices, max(1, threads // n_devices))))
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=n_devices,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",  # any free port, so that jobs do not meet
            local_addr="localhost",
            max_restarts=0,  # Snakemake starts jobs again
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        # A program of its own, since a spawned function would run the script again that calls this.
        program = "from perturbflow.machine.processes import take_part; take_part()"
        elastic_launch(launch, sys.executable)("-P", "-c", program, str(call), str(os.getpid()))


@contextmanager
def _package_in_python_path() -> Iterator[None]:
    """Let processes that are started meanwhile find this package, which is not installed."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *filter(None, [before])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def take_part() -> None:
    """What each process of `run_on_devices` does, given the file of the call and the number of its parent."""
    from torch.distributed.elastic.multiprocessing.errors import record

    call, parent = sys.argv[1:]
    _end_with(int(parent))
    record(_run_share)(Path(call))


def _run_share(call: Path) -> None:
    processes = Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    level = logging.INFO if processes.is_first else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", stream=sys.stderr)
    job, arguments, devices, threads = pickle.loads(call.read_bytes())
    device = devices[processes.number]
    set_up(device, threads)
    if device.type == "cuda":
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    job(*arguments, device, processes)
    distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """End this process when its parent ends, also where that is killed; on Linux alone."""
    if sys.platform == "linux":
        set_signal_of_parents_death = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_signal_of_parents_death, signal.SIGKILL)
        if os.getppid() != parent:  # it had ended already
            os.kill(os.getpid(), signal.SIGKILL)
