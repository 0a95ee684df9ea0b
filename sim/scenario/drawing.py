"""Draws a whole scenario from a seed: settings, links, devices, churn and faults, each kind there or not by a coin.

Leaving kinds out at random finds more than always having them all (swarm testing, Groce et al. 2012).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, get_args

from msgspec.structs import replace

from mdgan_edge.messages import SwapOptimizer
from mdgan_edge.streams import stream_seed
from sim.scenario.compiling import node_names
from sim.scenario.distributions import Constant, Distribution, Exponential, Lognormal, Normal, Pareto, Uniform, Weibull
from sim.scenario.quantities import BitRate, Duration, Frequency
from sim.scenario.values import (
    MS,
    Burst,
    Byzantine,
    Churn,
    ClockError,
    Clog,
    Crash,
    Device,
    Fault,
    FeedbackLie,
    FlashCrowd,
    Heal,
    HubCrash,
    HubIsolated,
    HubPause,
    HubPort,
    HubSlow,
    Leave,
    LinkChange,
    Links,
    LinkTerms,
    MassExit,
    Partition,
    Pause,
    Reset,
    S,
    Scenario,
    Server,
    SlowDisk,
    Straggler,
    SwapLie,
)

HEALTHY_FROM = 0.5  # of the duration: where the heal is, if the scenario says none
COMPLETES = 0.1  # of the seeds: the run ends by itself
LIARS = 0.2  # of the nodes at most
SWAP_EPOCHS = (0.05, 0.5)  # between two swaps
LIES: tuple[FeedbackLie, ...] = get_args(FeedbackLie)
SWAP_LIES: tuple[SwapLie, ...] = get_args(SwapLie)


def draw(scenario: Scenario, seed: int) -> Scenario:
    """The same name, length and number of nodes; all else by the seed."""
    rng = random.Random(stream_seed(seed, "everything"))
    heal = scenario.heal or Heal(at=Duration(int(scenario.duration * HEALTHY_FROM)))
    more = random.Random(stream_seed(seed, "everything", "more"))
    drawn = _settings(rng)
    swaps = random.Random(stream_seed(seed, "everything", "swap"))
    sync = drawn.get("mode") == "sync"
    settings = {**drawn, **_more_settings(more, sync), **_swap_settings(swaps), **scenario.settings}
    return replace(
        scenario,
        seed=seed,
        everything=False,
        settings=settings,
        links=replace(_links(rng), relayed=_relayed(random.Random(stream_seed(seed, "everything", "peers")))),
        device=_device(rng, settings.get("mode") == "sync"),
        server=Server(step=Constant(_ms(rng, 1, 30)), batch=Constant(_ms(rng, 1, 5))),
        churn=_churn(rng),
        fault=(
            *_faults(rng, int(heal.at)),
            *_more_faults(more, int(heal.at)),
            *_lost_writes(random.Random(stream_seed(seed, "everything", "writes")), int(heal.at), scenario.nodes),
            *_swap_lies(random.Random(stream_seed(seed, "everything", "swap lies")), int(heal.at), settings),
        ),
        heal=heal,
    )


def _ms(rng: random.Random, low: float, high: float) -> Duration:
    return Duration(round(rng.uniform(low, high) * MS))


def _s(rng: random.Random, low: float, high: float) -> Duration:
    return Duration(round(rng.uniform(low, high) * S))


def _settings(rng: random.Random) -> dict[str, Any]:
    hub = {
        "hub.heartbeat_s": rng.choice((0.5, 1.0, 2.0)),
        "hub.lease_s": rng.choice((3.0, 5.0, 8.0)),
        "hub.death_timeout_s": rng.choice((7.0, 10.0, 15.0)),
        "hub.evaluate_every": rng.choice((10, 50, 200)),
        "node.death_timeout_s": rng.choice((100.0, 300.0)),
        "training.steps": rng.randint(20, 200) if rng.random() < COMPLETES else 1_000_000,
    }
    if rng.random() < 0.1:
        return {**hub, "mode": "sync"}
    quorum = rng.choice((1, rng.randint(2, 8), 0.2, 0.5, 0.8, 1.0, "all"))
    return {
        **hub,
        "training.quorum": quorum,
        "training.staleness_policy": rng.choice(("block", "drop")),
        "training.staleness_max": rng.choice((0, 1, 2, 4, 8, 16)),
        "training.staleness_weight": rng.choice(("none", "inverse", "polynomial", "hinge")),
        "training.credit": rng.randint(1, 4),
        "training.quota": rng.choice(("auto", "auto", 1, 3)),
        "training.clip_factor": rng.choice((0.0, 3.0, 10.0)),
        "training.warm_up_tasks": rng.randint(0, 3),
        "training.step_timeout_s": rng.choice((2.0, 5.0, 10.0)),
        "training.batches_per_version": rng.choice(("auto", 1, 3)),
    }


def _more_settings(rng: random.Random, sync: bool) -> dict[str, Any]:
    drawn = {"hub.checkpoint_every": rng.choice((1, 10, 50)), "training.rate_fair": rng.random() < 0.3}
    return {"hub.checkpoint_every": drawn["hub.checkpoint_every"]} if sync else drawn


def _swap_settings(rng: random.Random) -> dict[str, Any]:
    return {
        "training.swap": rng.choice(("off", round(rng.uniform(*SWAP_EPOCHS), 2))),
        "training.swap_optimizer": rng.choice(get_args(SwapOptimizer)),
    }


def _more_faults(rng: random.Random, heal: int) -> list[Fault]:
    at = Duration(int(rng.uniform(0.05, 0.5) * heal))
    anew = Crash(at=at, rate=Frequency(0.2), lasts=Exponential(_s(rng, 1, 6)), keep_disk=False)
    return [anew] if rng.random() < 0.2 else []


def _lost_writes(rng: random.Random, heal: int, nodes: int) -> list[Fault]:
    """Some leave, which saves, and lose their power before that is on the disk."""
    if rng.random() >= 0.2:
        return []
    at = int(rng.uniform(0.1, 0.6) * heal)
    who = tuple(sorted(rng.sample(node_names(nodes), max(1, nodes // 10))))
    off = Duration(at + int(rng.uniform(1, 4) * S))
    crash = Crash(at=off, lasts=Exponential(_s(rng, 1, 6)), who=who, lost_writes=True)
    return [Leave(at=Duration(at), lasts=Constant(_s(rng, 4, 8)), who=who), *([crash] if off < heal else [])]


def _swap_lies(rng: random.Random, heal: int, settings: Mapping[str, Any]) -> list[Fault]:
    """Last, so that where nobody lies in swaps all else is as it was."""
    if settings.get("training.swap") == "off" or rng.random() >= 0.5:
        return []
    who, at = f"fraction:{rng.uniform(0.02, LIARS):.2f}", Duration(int(rng.uniform(0.05, 0.5) * heal))
    return [Byzantine(at=at, who=who, how=rng.choice(SWAP_LIES), chance=rng.choice((0.5, 1.0)))]


def _latency(rng: random.Random) -> Distribution:
    middle = _ms(rng, 1, 80)
    return rng.choice(
        (
            Constant(middle),
            Uniform(Duration(0), middle),
            Normal(middle, Duration(middle // 3)),
            Lognormal(middle, rng.uniform(0.1, 1.0)),
            Pareto(middle, rng.uniform(1.5, 3.0)),
            Exponential(middle),
        )
    )


def _links(rng: random.Random) -> Links:
    default = LinkTerms(
        latency=_latency(rng),
        loss=rng.choice((None, None, 0.005, 0.02)),
        burst=Burst(every=_s(rng, 5, 20), lasts=_s(rng, 0.2, 2)) if rng.random() < 0.2 else None,
        duplicate=rng.choice((None, None, 0.02, 0.2)),
        reorder=rng.choice((None, None, 0.02, 0.2)),
        rate=rng.choice((None, None, BitRate(20_000_000))),
    )
    up = LinkTerms(rate=BitRate(5_000_000)) if rng.random() < 0.2 else LinkTerms()
    port = HubPort(up=BitRate(1_000_000_000), down=BitRate(500_000_000)) if rng.random() < 0.2 else HubPort()
    return Links(default=default, up=up, hub=port)


def _relayed(rng: random.Random) -> float:
    return rng.choice((0.0, 0.3, 1.0))


def _device(rng: random.Random, sync: bool) -> Device:
    median = _ms(rng, 200, 800)
    if sync:  # the slowest of all sets the pace
        return Device(task=Lognormal(median, rng.uniform(0.1, 0.4)))
    task = rng.choice((Constant(median), Lognormal(median, rng.uniform(0.1, 1.0)), Exponential(median)))
    return Device(task=task, speed_sigma=rng.choice((0.0, 0.3, 0.8)))


def _churn(rng: random.Random) -> Churn:
    if rng.random() < 0.5:
        return Churn()
    sessions = Weibull(rng.uniform(0.5, 1.5), _s(rng, 20, 120)) if rng.random() < 0.7 else None
    churn = Churn(
        arrivals=Frequency(rng.choice((0.05, 0.2, 0.5))) if rng.random() < 0.6 else None,
        sessions=sessions,
        gaps=Exponential(_s(rng, 1, 8)) if sessions is not None and rng.random() < 0.8 else None,
        ends=rng.choice(("leave", "crash", "both")),
    )
    return churn if sessions is not None else replace(churn, ends="both")  # who stays does not end


def _faults(rng: random.Random, heal: int) -> list[Fault]:
    return [fault for fault in _one_of_each(rng, heal) if rng.random() < 0.4]


def _one_of_each(rng: random.Random, heal: int) -> list[Fault]:
    def at() -> Duration:
        return Duration(int(rng.uniform(0.05, 0.9) * heal))

    def rate(low: float = 0.02, high: float = 0.3) -> Frequency:
        return Frequency(round(rng.uniform(low, high), 4))

    def some() -> str:
        return f"fraction:{rng.uniform(0.05, 0.6):.2f}"

    short = Exponential(_s(rng, 1, 6))
    shorter = replace(_latency_change(rng), at=at(), lasts=short, who=some())
    liars = f"fraction:{rng.uniform(0.02, LIARS):.2f}"
    return [
        shorter,
        LinkChange(rate=rate(), lasts=short, loss=rng.uniform(0.1, 0.9)),
        Clog(rate=rate(), lasts=short, stability=Duration(S), direction=rng.choice(("up", "down", "both"))),
        Partition(at=at(), lasts=short, who=some(), one_way=rng.random() < 0.5),
        Partition(rate=rate(), lasts=short, stability=Duration(S)),
        Reset(rate=rate()),
        Straggler(at=at(), who=some(), factor=rng.choice((3.0, 10.0, 50.0))),
        Pause(rate=rate(), lasts=Exponential(_s(rng, 1, 12))),
        Crash(rate=rate(), lasts=short, stability=Duration(S), lost_writes=rng.random() < 0.5),
        Crash(at=at(), lasts=short, who=some(), keep_disk=rng.random() < 0.5),
        Crash(at=at(), who="one"),
        SlowDisk(at=at(), who=some()),
        ClockError(at=at(), who=some(), skew=_s(rng, 0, 5), drift=rng.uniform(-50_000, 50_000)),
        Byzantine(
            at=at(), who=liars, how=rng.choice(LIES), chance=rng.choice((0.3, 1.0)), factor=rng.choice((5, 1000))
        ),
        Byzantine(at=at(), who=liars, how=rng.choice(LIES)),
        Leave(rate=rate(0.02, 0.1), lasts=Exponential(_s(rng, 1, 5))),
        FlashCrowd(at=at(), count=rng.randint(2, 20)),
        MassExit(at=at(), lasts=short, who=some(), how=rng.choice(("leave", "crash"))),
        HubCrash(at=at(), lasts=Constant(_s(rng, 0.5, 5))),
        HubIsolated(at=at(), lasts=Constant(_s(rng, 1, 12))),
        HubPause(at=at(), lasts=Constant(_s(rng, 0.5, 12))),
        HubSlow(at=at(), lasts=Constant(_s(rng, 2, 8)), factor=rng.choice((5.0, 50.0))),
    ]


def _latency_change(rng: random.Random) -> LinkChange:
    return LinkChange(latency=Lognormal(_ms(rng, 100, 2000), 0.5), direction=rng.choice(("up", "down", "both")))
