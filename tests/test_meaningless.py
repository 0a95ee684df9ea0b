"""What would mean nothing in a scenario file is refused, in one line that says why."""

from __future__ import annotations

import pytest

from mdgan_edge.errors import ConfigurationError
from sim.scenario.reading import parse_scenario
from tests.test_scenario_files import HEAD, fault

CLOG, CROWD = "bad.toml: fault 1 (clog): ", "bad.toml: fault 1 (flash_crowd): "

# What follows HEAD, and all that is said of it.
NOTHING = [
    *[
        (f"everything = true\n{text}", f"bad.toml: everything = true draws {name} itself: leave [{name}] out")
        for name, text in (
            ("links", "[links.default]\nloss = 0.1"),
            ("device", '[device]\ntask = "5ms"'),
            ("server", '[server]\nstep = "50ms"'),
            ("churn", '[churn]\narrivals = "5/s"'),
        )
    ],
    ('[churn]\narrivals = "0/s"', "bad.toml: churn.arrivals = 0/s: nobody ever comes: leave it out"),
    (
        '[churn]\nends = "crash"',
        "bad.toml: churn.ends needs churn.sessions: how nodes go means nothing if they never go",
    ),
    (
        '[churn]\ntrace = [["100s", "join", "a"]]',
        "bad.toml: churn.trace, line 1: 100s is after the end of the run at 1min",
    ),
    *[
        (
            f'[links.{name}]\nqueue = "1MB"{more}',
            f"bad.toml: links.{name}.queue: nothing waits in it without a rate: give {name} a rate, or leave it out",
        )
        for name, more in (("default", ""), ("up", '\n[links.down]\nrate = "1Mbit"'), ("down", ""))
    ],
    (
        fault('kind = "flash_crowd"; at = "1s"; count = 2; who = "n1"'),
        f"{CROWD}who = 'n1' means nothing to it: those who come are new, and named by the seed",
    ),
    (
        fault('kind = "clog"; at = "1s"; stability = "2s"'),
        f"{CLOG}`stability` means nothing to it without `for`: it lasts to the heal, or else to the end",
    ),
    *[
        (
            fault(f'kind = "{kind}"; at = "1s"; for = "0s"'),
            f"bad.toml: fault 1 ({kind}): for = 0s: it does nothing in no time",
        )
        for kind in ("clog", "partition", "pause", "straggler", "hub_isolated")
    ],
    *[
        (fault(f'kind = "{kind}"; at = "1s"; factor = 1'), f"bad.toml: fault 1 ({kind}): factor = 1 changes nothing")
        for kind in ("straggler", "slow_disk", "hub_slow")
    ],
    (
        fault('kind = "byzantine"; at = "1s"; how = "scale"; factor = 1'),
        "bad.toml: fault 1 (byzantine): factor = 1 changes nothing",
    ),
    (
        fault('kind = "byzantine"; at = "1s"; how = "nan"; chance = 0'),
        "bad.toml: fault 1 (byzantine): chance = 0 never comes: leave the fault out",
    ),
    *[
        (
            fault(f'kind = "{kind}"; at = "10s"; within = "51s"{more}'),
            f"bad.toml: fault 1 ({kind}): within = 51s goes beyond the end of the run at 1min",
        )
        for kind, more in (("mass_exit", ""), ("flash_crowd", "; count = 2"))
    ],
    (
        fault('kind = "crash"; at = "1s"; keep_disk = false'),
        "bad.toml: fault 1 (crash): keep_disk = false means nothing without `for`: it never starts again",
    ),
    (
        fault('kind = "crash"; at = "1s"; lost_writes = true'),
        "bad.toml: fault 1 (crash): lost_writes = true means nothing without `for`: it never starts again",
    ),
    (
        fault('kind = "crash"; at = "1s"; for = "1s"; lost_writes = true; keep_disk = false'),
        "bad.toml: fault 1 (crash): lost_writes = true means nothing if it does not keep its disk",
    ),
]


@pytest.mark.parametrize(("text", "said"), NOTHING, ids=[said[:60] for _, said in NOTHING])
def test_what_would_mean_nothing_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_scenario(HEAD + text, "bad.toml")
    assert str(raised.value) == said
