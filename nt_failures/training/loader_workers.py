"""DataLoader workers that outlive a signal to all processes, so that the training can stop with a checkpoint."""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

from torch.utils.data import DataLoader


def spare_workers(loader: DataLoader) -> None:
    """Make it so for the workers that a loader will start.

    A terminal sends Ctrl-C to all processes, SLURM SIGTERM: a worker that dies of it takes the training along before it
    has a checkpoint. Nothing is changed where workers cannot wait for signals (macOS, Windows).
    """
    inner = getattr(loader, "base_dataloader", loader)  # that of accelerate's
    if inner.num_workers and hasattr(signal, "sigwaitinfo"):
        inner.worker_init_fn = functools.partial(_leave_signals, inner.worker_init_fn)


def _leave_signals(then: Callable[[int], None] | None, worker: int) -> None:
    """In a worker: take no signal but the SIGTERM of the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # torch's own handler would end it
    threading.Thread(target=_wait_for_parent, daemon=True).start()
    if then is not None:
        then(worker)


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != multiprocessing.parent_process().pid:
        pass
    os._exit(0)
