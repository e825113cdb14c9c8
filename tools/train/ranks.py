# SPDX-License-Identifier: MIT
"""Several processes of one host that train the same weights on different data, a GPU each. launch() starts them, or
torchrun: environment variables say which is which. A single process needs none of this; nothing here then does anything."""
import os, signal, socket, subprocess, sys, time
import torch, torch.distributed as dist
import ops


def free_port():
    """One that is free now, and the next one too."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try: next_one.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError): continue
            return port


def launch(n):
    """Runs this program n times, as processes that find each other; when one fails all end. -> exit code"""
    shared = {**os.environ, "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    running = [subprocess.Popen([sys.executable, *sys.argv], env={**shared, "RANK": str(i), "LOCAL_RANK": str(i)})
               for i in range(n)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        while any(p.poll() is None for p in running) and not any(p.poll() for p in running): time.sleep(.1)
        return next((1 for p in running if p.poll()), 0)
    finally:
        for p in running: p.terminate()


class Ranks:
    def __init__(s):
        s.rank, s.n = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        s.store, s.asked = None, 0

    def begin(s):
        """Meets the others, after worker processes were forked. -> the device of this process"""
        local = int(os.environ.get("LOCAL_RANK", 0))
        if ops.FAST: torch.cuda.set_device(local)
        if s.n > 1:
            dist.init_process_group("nccl" if ops.FAST else "gloo")
            # Decisions go through a store of their own: by a collective they would wait for the device.
            s.store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]) + 1, s.n, s.rank == 0)
        return torch.device("cuda", local) if ops.FAST else torch.device("cpu")

    def decide(s, f, look):
        """What process 0 passes, in every process."""
        if s.n == 1: return f, look
        key, s.asked = f"step {s.asked}", s.asked + 1
        if s.rank == 0: s.store.set(key, f"{f!r} {int(look)}")
        else: f, look = (float(x) for x in s.store.get(key).split())
        return f, bool(look)

    def end(s):
        if s.n > 1: dist.destroy_process_group()


class Average:
    """Makes gradients, and the load of the experts, the mean of all processes: one sum a step."""

    def __init__(s, ranks, m):
        s.ranks, s.parameters, s.buffers = ranks, list(m.parameters()), list(m.buffers())

    def all_in_one(s, tensors, f):
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        f(flat)
        for t, part in zip(tensors, flat.split([t.numel() for t in tensors])): t.copy_(part.view(t.shape))

    @torch.no_grad()
    def gradients(s):
        if s.ranks.n == 1: return

        def mean(flat):
            dist.all_reduce(flat)
            flat /= s.ranks.n

        s.all_in_one([p.grad for p in s.parameters] + s.buffers, mean)

    @torch.no_grad()
    def weights(s):
        """Takes those of process 0."""
        if s.ranks.n > 1: s.all_in_one([p.data for p in s.parameters] + s.buffers, lambda flat: dist.broadcast(flat, 0))
