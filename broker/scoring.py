"""Looks at averaged generators: in this process, or in a child of low priority that training never waits for.

The child's life: forked → prepares its scorer (the classifier is trained then, or taken from the cache) → tells the
facts → one generator in, its scores out, again and again → ends with the hub. A child that has ended, however that
came, only means that there are no more scores.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load, save

from mdgan_edge.data.images import Images
from mdgan_edge.gan.generator import sample_images
from mdgan_edge.gan.models import build_generator
from mdgan_edge.gan.scores import Scorer, Scores, why_not
from mdgan_edge.settings import Settings
from mdgan_edge.streams import stream_seed

NO_REAL_IMAGES = "the hub has no real images to hold samples against (hub.data = none)"
NICENESS = 10  # of the child: the generator and nodes on the same machine come first
STATE_BYTES_MAX = 1 << 30  # of one generator on its way to the child
ANSWER_BYTES_MAX = 1 << 16
DESCRIPTORS_MAX = 65_536  # of those the child has no use for, the highest
ENDED = "the process that scores has ended; its last words are in the hub's output"
STDERR = 2  # the descriptor; what Python makes of it may have been closed
PR_SET_PDEATHSIG = 1  # linux/prctl.h

Real = tuple[Images, Images]  # (train, test): what the hub may look at for its scores


@dataclass(frozen=True, slots=True)
class ScorerFacts:
    """What run.json says of a scorer: the classifier's accuracy on held-out images, and what noise would get."""

    accuracy: float | None = None
    noise_fid: float | None = None


class NoScores:
    """Where there is nothing to score with, and why."""

    facts = ScorerFacts()

    def __init__(self, reason: str, level: Literal["info", "warning"]) -> None:
        self.reason, self.level = reason, level

    def scores(self, average: Mapping[str, torch.Tensor]) -> Scores:  # noqa: ARG002
        """None of each."""
        return Scores(reason=self.reason)


class SnapshotScorer:
    """Draws the samples of an evaluation from a state dict and scores them, in the calling thread."""

    def __init__(self, settings: Settings, scorer: Scorer) -> None:
        self._settings, self._scorer = settings, scorer
        self._average = build_generator(settings.model, seed=0)

    @property
    def facts(self) -> ScorerFacts:
        """What is known of the scorer."""
        return ScorerFacts(self._scorer.accuracy, self._scorer.noise_fid())

    def scores(self, average: Mapping[str, torch.Tensor]) -> Scores:
        """The scores of the generator with this state dict."""
        self._average.load_state_dict(average)
        seed = stream_seed(self._settings.training.seed, "evaluation")
        images, _ = sample_images(self._average, self._settings.model, self._settings.hub.samples, seed)
        return self._scorer.scores(images)


class ScoringProcess:
    """A SnapshotScorer in a child. Made before this process has threads, locks or sockets that a child would share."""

    def __init__(self, make: Callable[[], SnapshotScorer]) -> None:
        self.facts = ScorerFacts()
        self._ready = False
        self._one_at_a_time = threading.Lock()
        self._ours, theirs = Pipe()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(make, theirs, parent)
        theirs.close()

    def scores(self, average: Mapping[str, torch.Tensor]) -> Scores:
        """The child's answer, whenever it comes."""
        with self._one_at_a_time, suppress(EOFError, OSError):
            if not self._ready:
                self.facts = ScorerFacts(**json.loads(self._ours.recv_bytes(ANSWER_BYTES_MAX)))
                self._ready = True
            self._ours.send_bytes(save({name: value.contiguous() for name, value in average.items()}))
            return Scores(**json.loads(self._ours.recv_bytes(ANSWER_BYTES_MAX)))
        return Scores(reason=ENDED)

    def close(self) -> None:
        """End the child, whatever it is at."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


HubScoring = NoScores | ScoringProcess


@contextmanager
def scored(settings: Settings, real: Real | None, cache: Path | None) -> Iterator[HubScoring]:
    """What scores a hub's generators against these images (train, test); ended at the end."""
    if real is None:
        yield NoScores(NO_REAL_IMAGES, "info")
    elif (reason := why_not(*real)) is not None:
        yield NoScores(reason, "warning")
    else:
        process = ScoringProcess(lambda: SnapshotScorer(settings, Scorer.build(*real, settings.training.seed, cache)))
        try:
            yield process
        finally:
            process.close()


def _be_child(make: Callable[[], SnapshotScorer], channel: Connection, parent: int) -> None:
    code = 1
    try:
        _leave_the_parent_alone(channel.fileno(), parent)
        _serve(make(), channel)
        code = 0
    except BaseException:  # noqa: BLE001  (the child ends here, whatever it was)
        with suppress(OSError):
            os.write(STDERR, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _leave_the_parent_alone(channel: int, parent: int) -> None:
    """Signals to end are the parent's to take, its files and sockets not ours; when it ends, so do we."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(STDERR + 1, channel)
    os.closerange(channel + 1, DESCRIPTORS_MAX)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    os.nice(NICENESS)
    torch.set_num_threads(1)


def _serve(scorer: SnapshotScorer, channel: Connection) -> None:
    channel.send_bytes(json.dumps(asdict(scorer.facts)).encode())
    with suppress(EOFError):
        while True:
            average = load(channel.recv_bytes(STATE_BYTES_MAX))
            channel.send_bytes(json.dumps(asdict(scorer.scores(average))).encode())
