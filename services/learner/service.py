"""The learner: experience in, weights out, for as long as it is let.

Three threads. `run` trains, at low priority so that control loops on the same machine come first. `feed` owns the
sockets (see `Feed`), `journal` writes to disk (see `Journal`). The replay decides when there is a batch, so the train
ratio needs no care here. A restart goes on from the newest checkpoint: weights, optimiser, normalisers, RNG and
counters.

A loss that is not finite skips its update and is counted; `PATIENCE` of them in a row go back to the newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import closing

import torch
import zmq

from daydreamer import checkpoints
from daydreamer.agent import Agent, BadObservation, NonFiniteLoss
from daydreamer.blueprint import Blueprint
from daydreamer.diagnostics.watch import Watch
from daydreamer.nn.memory import keep_freed_memory
from daydreamer.replay.limiter import Limiter
from services.config import Config
from services.crew import Crew
from services.embodiment import model_spaces
from services.learner.feed import Batch, Feed
from services.learner.journal import Journal
from services.learner.weights import Shelf, Versions, pack
from services.link import Link
from services.node import Node
from services.run_folder import RunFolder
from services.wire import sockets
from services.wire.messages import LIMITS
from services.wire.security import Security

IDLE = 0.1  # seconds between looks at clock and `stop` while there is no batch
LOG_SECONDS = 2.0  # between two lines of metrics
PATIENCE = 5  # skipped updates in a row
TRAINED_ON = ("reward", "is_first", "is_last", "is_terminal")  # beside the model's keys and `prev_action`

log = logging.getLogger(__name__)


class Diverged(Exception):
    """Update after update had a loss that is not finite, and there is no checkpoint to go back to."""


class LearnerService:
    """`folder` is the run's. `control`: the coordinator's address, where it is not the config's."""

    def __init__(self, config: Config, folder: RunFolder, *, control: str = "") -> None:
        self._config, self._folder, self._control = config, folder, control
        self._replayed = self._skipped = 0
        self._shelf = Shelf()
        self._published = -1  # updates behind the newest version
        self._latest: dict[str, float] = {}
        self._logged = self._saved = 0
        self._noted = 0.0

    def run(self, stop: threading.Event) -> None:
        """Learn until `stop`, then write a checkpoint. Raises SocketError, ConfigError, CheckpointError, Diverged."""
        torch.set_num_threads(1)  # until `_step_back`
        keep_freed_memory()
        model = model_spaces(self._config)
        self._agent = Agent(*model, self._config.agent, self._config.seed, self._config.learner.device)
        self._blueprint = Blueprint.of(self._agent)
        self._watch = Watch(self._agent)
        self._restore()
        self._versions = Versions(self._folder.checkpoints / "versions")
        network = self._config.network
        security = Security.load(network.keys) if network.keys else None
        with (zmq.Context() as context,
              closing(sockets.Server(context, network.addresses()["weights"], limit=LIMITS["weights"],
                                     security=security)) as server,
              closing(Journal(self._folder, self._blueprint, self._config.learner.keep)) as self._journal,
              Node("learner", "learner", self._config, context, {"weights": server.address},
                   control=self._control) as self._node,
              Crew(stop) as crew):
            self._node.metrics.follow("bad_frames_total", server.refused.total, "weights")
            self._feed = self._new_feed(Link(context, self._node, "samples", security), server, list(model[0]))
            crew.start("feed", lambda: self._feed.work(crew))
            self._step_back()
            self._learn(crew)
            self._node.state = "stopping"
            self._save(wait=True)

    def _new_feed(self, link: Link, server: sockets.Server, keys: list[str]) -> Feed:
        replay = self._config.replay
        return Feed(link, server, self._shelf, batch=replay.batch, length=replay.length, burn_in=replay.burn_in,
                    replayed=self._replayed, columns=[*keys, *TRAINED_ON], prefetch=self._config.learner.prefetch,
                    limiter=Limiter(self._config.learner.train_ratio, replay.prefill))

    def _restore(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        self._folder.checkpoints.mkdir(parents=True, exist_ok=True)
        found = checkpoints.load_newest(self._folder.checkpoints, self._blueprint)
        if found is None:
            return
        self._agent.load_state_dict(found.tensors)
        self._replayed = max(self._replayed, int(found.counters["replayed"]))
        log.info("going on from %s: %d updates, %d steps replayed", found.folder, self._agent.updates, self._replayed)

    def _step_back(self) -> None:
        """Lower the priority of this thread and of those that torch starts for it from now on, and of no other."""
        os.nice(self._config.learner.nice)
        torch.set_num_threads(self._config.learner.threads)

    def _learn(self, crew: Crew) -> None:
        now = time.monotonic()
        learner = self._config.learner
        publish, save, note = now, now + learner.checkpoint_seconds, now
        self._logged, self._noted = self._agent.updates, now
        while not crew.ended:
            if (now := time.monotonic()) >= note:
                self._note(now)
                note = now + LOG_SECONDS
            if now >= publish and self._publish():
                publish = now + learner.publish_seconds
            if now >= save:
                self._save()
                save = now + learner.checkpoint_seconds
            if (batch := self._feed.take(IDLE)) is not None:
                self._update(batch)
            self._node.state, why = ("waiting", self._feed.waiting) if batch is None else ("running", "")
            self._node.detail = "; ".join(filter(None, [why, *(finding.text for finding in self._watch.findings)]))
        self._note(time.monotonic())

    def _update(self, batch: Batch) -> None:
        """One update, or one skipped."""
        begun = time.perf_counter()
        self._replayed += self._config.replay.batch * self._config.replay.length
        try:
            self._latest = self._agent.train(batch, burn_in=self._config.replay.burn_in)
        except (NonFiniteLoss, BadObservation) as error:
            self._skip(error)
        else:
            self._skipped = 0
            self._node.observe("learner_step_seconds", time.perf_counter() - begun)
            self._look(batch)

    def _look(self, batch: Batch) -> None:
        """See how learning goes, where it is time to; log what has become clearly wrong."""
        known = {finding.figure for finding in self._watch.findings}
        if self._watch.look(batch, burn_in=self._config.replay.burn_in):
            for finding in self._watch.findings:
                if finding.figure not in known:
                    log.warning("after %d updates: %s", self._watch.updates, finding.text)

    def _skip(self, error: Exception) -> None:
        self._skipped += 1
        self._node.count("learner_skipped_updates_total")
        log.warning("update skipped: %s", error)
        if self._skipped >= PATIENCE:
            self._go_back()

    def _go_back(self) -> None:
        found = checkpoints.load_newest(self._folder.checkpoints, self._blueprint)
        if found is None:
            raise Diverged(f"{self._skipped} updates in a row had a loss that is not finite, and there is no "
                           "checkpoint to go back to; look at the signals, or lower agent.learning_rate")
        log.error("%d updates in a row had a loss that is not finite: going back to %s", self._skipped, found.folder)
        self._agent.load_state_dict(found.tensors)
        self._skipped = 0

    def _publish(self) -> bool:
        """Offer the weights as a new version, if there was an update since the last one."""
        if self._agent.updates in (0, self._published):
            return False
        weights = pack(self._agent.acting_state(), self._versions.take(), self._agent.updates)
        self._shelf.put(weights)
        self._published = self._agent.updates
        self._node.gauge("learner_weights_version", weights.version)
        return True

    def _save(self, wait: bool = False) -> None:
        """Write a checkpoint; one that is still being written counts instead, unless this is the last."""
        if wait:
            self._journal.flush()
        self._journal.checkpoint(self._agent.state_dict(), {"updates": self._agent.updates, "replayed": self._replayed})
        if wait:
            self._journal.flush()

    def _note(self, now: float) -> None:
        """Report on what happened since the last note."""
        updates, achieved = self._agent.updates, Limiter.achieved(self._feed.inserted, self._replayed)
        rate = (updates - self._logged) / max(now - self._noted, 1e-3)
        gauges = {
            "learner_updates": updates,
            "learner_updates_per_second": rate,
            "learner_replayed_steps": self._replayed,
            "learner_train_ratio_wanted": self._config.learner.train_ratio,
            "learner_train_ratio_achieved": achieved,
        }
        for name, value in gauges.items():
            self._node.gauge(name, value)
        for name, value in (self._latest | self._watch.figures).items():
            self._node.gauge("learner_metric", value, name)
        self._node.count("learner_checkpoints_total", self._journal.saved - self._saved)
        self._saved = self._journal.saved
        if updates > self._logged:
            progress = {"steps": self._feed.inserted, "replayed": self._replayed, "train_ratio": achieved,
                        "updates_per_second": rate}
            fresh = self._watch.figures if self._watch.updates > self._logged else {}
            self._journal.metrics(updates, progress, self._latest | fresh)
        self._logged, self._noted = updates, now
