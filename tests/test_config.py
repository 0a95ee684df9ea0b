"""Settings from file, environment and flags: precedence, near misses, words for what is wrong, and the round trip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdgan_edge import config
from mdgan_edge.config import Explained, dump_toml, explain, load_settings
from mdgan_edge.errors import ConfigurationError, ExitCode
from mdgan_edge.messages import ModelSettings
from mdgan_edge.settings import EXACT_REDUCTION, HubSettings, NodeSettings, Settings, TrainingSettings


def write(directory: Path, text: str) -> Path:
    path = directory / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(
    file: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, environ or {}, overrides or {}, reserved={"MDGAN_OUT"})
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    return str(caught.value)


def from_flags(**overrides: object) -> Settings:
    return load_settings(None, {}, {key.replace("__", "."): value for key, value in overrides.items()})


def test_nothing_given_means_the_defaults() -> None:
    assert load_settings(None, {}, {}) == Settings()


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "[training]\nsteps = 1\nseed = 1\ncredit = 1\n")
    environ = {"MDGAN_TRAINING_STEPS": "2", "MDGAN_TRAINING_SEED": "2"}
    training = load_settings(file, environ, {"training.steps": "3"}).training
    assert (training.steps, training.seed, training.credit, training.staleness_max) == (3, 2, 1, 8)


def test_explain_names_the_origin_of_every_setting(tmp_path: Path) -> None:
    file = write(tmp_path, "[hub]\nsamples = 70\n")
    explained = explain(file, {"MDGAN_TRAINING_SEED": "5"}, {"training.quorum": 3})
    assert list(explained) == list(config.KEYS)
    assert explained["hub.samples"] == Explained(70, str(file))
    assert explained["training.seed"] == Explained(5, "environment MDGAN_TRAINING_SEED")
    assert explained["training.quorum"] == Explained(3, "flag")
    assert explained["hub.bind"] == Explained("tcp://127.0.0.1:5755", "default")


@pytest.mark.parametrize(
    ("text", "value"), [("0.3", 0.3), ("3", 3), ("all", "all"), ('"all"', "all"), ("1.0", 1.0), (" 4 ", 4)]
)
def test_text_of_flags_and_variables_is_a_toml_value_or_bare_words(text: str, value: object) -> None:
    assert load_settings(None, {"MDGAN_TRAINING_QUORUM": text}, {}).training.quorum == value
    assert from_flags(training__quorum=text).training.quorum == value
    assert type(from_flags(training__quorum=text).training.quorum) is type(value)


@pytest.mark.parametrize("text", ["2024", "true", "1979-05-27", "classes=0-4", "C:\\images", "a\nseed = 3", "[1]"])
def test_text_for_a_setting_that_is_text_is_taken_as_it_stands(text: str) -> None:
    assert from_flags(node__shard=text).node.shard == text


def test_a_value_may_already_have_its_type() -> None:
    settings = from_flags(training__scale_lr=False, node__resize=32, training__quorum=0.25)
    assert (settings.training.scale_lr, settings.node.resize, settings.training.quorum) == (False, 32, 0.25)


def test_a_flag_that_is_none_and_a_variable_that_is_empty_were_not_given() -> None:
    settings = load_settings(None, {"MDGAN_TRAINING_SEED": ""}, {"training.steps": None})
    assert settings == Settings()


def test_whole_numbers_do_where_a_fraction_may_stand() -> None:
    lease_s = from_flags(hub__lease_s=12).hub.lease_s
    assert (lease_s, type(lease_s)) == (12.0, float)


def test_an_unknown_key_in_the_file_names_the_near_miss(tmp_path: Path) -> None:
    file = write(tmp_path, "[training]\nquorom = 3\n")
    assert complaint(file) == f"unknown key 'training.quorom' in {file}: did you mean 'training.quorum'?"


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("quorum = 3", "training.quorum"),
        ("[trainning]\nquorum = 3", "training.quorum"),
        ("[hub]\nsteps = 3", "training.steps"),
        ("[training.staleness]\nmax = 3", "training.staleness_max"),
        ("[wholly_other]", None),
        ("[training]\nx = 1", None),
    ],
)
def test_a_key_in_the_wrong_place_is_unknown_and_the_right_place_is_named(
    tmp_path: Path, text: str, near: str | None
) -> None:
    advice = f"did you mean '{near}'?" if near else "docs/configuration.md lists them all"
    text = complaint(write(tmp_path, text))
    assert text.startswith("unknown key '")
    assert text.endswith(advice)


def test_an_unknown_variable_names_the_near_miss() -> None:
    assert complaint(environ={"MDGAN_TRAINING_QUOROM": "3"}) == (
        "unknown variable 'MDGAN_TRAINING_QUOROM' in the environment: did you mean 'MDGAN_TRAINING_QUORUM'?"
    )
    assert "'MDGAN_OUT'" in complaint(environ={"MDGAN_OUTT": "runs/x"})
    assert "'MDGAN_TRAINING_QUORUM'" in complaint(environ={"MDGAN_QUORUM": "3"})


def test_reserved_and_foreign_variables_are_left_alone() -> None:
    environ = {"MDGAN_OUT": "runs/x", "PATH": "/bin"}
    assert load_settings(None, environ, {}, reserved={"MDGAN_OUT"}) == Settings()


def test_an_unknown_flag_names_the_near_miss() -> None:
    text = complaint(overrides={"training.lr_genrator": "1e-3"})
    assert text == "unknown key 'training.lr_genrator' in a flag: did you mean 'training.lr_generator'?"


def test_a_section_is_not_a_value(tmp_path: Path) -> None:
    assert "training in a flag is a section" in complaint(overrides={"training": 3})
    assert "is a section" in complaint(write(tmp_path, "training = 3"))
    assert "training.seed = a table" in complaint(write(tmp_path, "[training.seed]\nx = 3"))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("training.steps", "0", 'training.steps = "0" (flag) is not allowed: a whole number >= 1'),
        ("training.steps", 2.5, "training.steps = 2.5 (flag) is not allowed: a whole number >= 1"),
        ("training.beta1", 1.0, "training.beta1 = 1.0 (flag) is not allowed: a number >= 0 and < 1"),
        ("training.lr_generator", float("nan"), "training.lr_generator = nan (flag) is not allowed: a number > 0"),
        ("training.lr_generator", "inf", 'training.lr_generator = "inf" (flag) is not allowed: a number > 0'),
        ("training.scale_lr", "yes", 'training.scale_lr = "yes" (flag) is not allowed: true or false'),
        ("mode", "asynch", 'mode = "asynch" (flag) is not allowed: "async" or "sync"'),
        ("node.resize", 7, "node.resize = 7 (flag) is not allowed: a whole number >= 8 and <= 64, or left out"),
        ("node.channels", 2, "node.channels = 2 (flag) is not allowed: 1 or 3, or left out"),
        (
            "training.quorum",
            2.0,
            'training.quorum = 2.0 (flag) is not allowed: a whole number >= 1, a number > 0 and <= 1 or "all"',
        ),
        (
            "training.seed",
            True,
            "training.seed = true (flag) is not allowed: a whole number >= 0 and <= 9223372036854775807",
        ),
        ("hub.bind", 3, "hub.bind = 3 (flag) is not allowed: text"),
    ],
)
def test_a_wrong_value_names_key_value_origin_and_what_is_allowed(key: str, value: object, said: str) -> None:
    assert complaint(overrides={key: value}) == said


def test_the_origin_of_a_wrong_value_is_the_file_or_the_variable(tmp_path: Path) -> None:
    file = write(tmp_path, '[training]\nsteps = "many"\n')
    assert f'training.steps = "many" ({file})' in complaint(file)
    assert "(environment MDGAN_TRAINING_STEPS)" in complaint(environ={"MDGAN_TRAINING_STEPS": "many"})


def test_a_wrong_value_is_reported_even_where_a_flag_overrides_it(tmp_path: Path) -> None:
    file = write(tmp_path, "[training]\nsteps = 0\n")
    assert "training.steps" in complaint(file, overrides={"training.steps": 5})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert complaint(missing) == f"cannot read the configuration {missing}: No such file or directory"
    assert "Is a directory" in complaint(tmp_path)


def test_a_file_that_is_not_toml_is_named_with_the_line(tmp_path: Path) -> None:
    text = complaint(write(tmp_path, "[training]\nsteps 3\n"))
    assert "run.toml is not valid TOML" in text
    assert "line 2" in text


def test_a_file_that_is_not_utf_8_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'[hub]\ndata = "\xe9"\n')
    assert complaint(path) == f"{path} is not UTF-8 text (at line 2)"


def test_sync_means_the_exact_reduction() -> None:
    training = from_flags(mode="sync").training
    assert {name: getattr(training, name) for name in EXACT_REDUCTION} == EXACT_REDUCTION


def test_sync_is_an_origin_of_its_own_and_only_as_chosen() -> None:
    assert explain(None, {}, {"mode": "sync"})["training.credit"] == Explained(1, 'mode = "sync"')
    assert explain(None, {"MDGAN_MODE": "sync"}, {"mode": "async"})["training.credit"] == Explained(2, "default")


def test_sync_does_not_bend_an_explicit_value_it_refuses_it() -> None:
    assert complaint(environ={"MDGAN_TRAINING_QUORUM": "0.5"}, overrides={"mode": "sync"}) == (
        'training.quorum = 0.5 (environment MDGAN_TRAINING_QUORUM) contradicts mode = "sync" (flag), '
        'which means "all": leave it out, or set mode = "async"'
    )


def test_sync_takes_an_explicit_value_that_agrees() -> None:
    assert from_flags(mode="sync", training__quorum="all", training__clip_factor=0) == from_flags(mode="sync")


def test_quorum_min_above_a_counted_quorum_is_a_contradiction() -> None:
    text = complaint(overrides={"training.quorum": 3, "training.quorum_min": 4})
    assert text.startswith("training.quorum_min = 4 (flag) exceeds training.quorum = 3 (flag)")
    assert from_flags(training__quorum=3, training__quorum_min=3).training.quorum_min == 3
    assert from_flags(training__quorum=0.1, training__quorum_min=4).training.quorum_min == 4


def test_a_node_is_not_given_up_before_it_is_suspected() -> None:
    text = complaint(overrides={"hub.heartbeat_s": 9, "hub.suspect_after_missed": 4})
    assert text.startswith("hub.death_timeout_s = 30.0 (default) must exceed hub.heartbeat_s = 9.0 (flag)")


def test_a_lease_is_longer_than_a_heartbeat() -> None:
    text = complaint(overrides={"hub.lease_s": 1.5})
    assert text.startswith("hub.lease_s = 1.5 (flag) must exceed hub.heartbeat_s = 2.0 (default)")


def test_the_defaults_round_trip(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, dump_toml(Settings())), {}, {}) == Settings()


def test_a_sync_run_round_trips(tmp_path: Path) -> None:
    settings = from_flags(mode="sync")
    assert load_settings(write(tmp_path, dump_toml(settings)), {}, {}) == settings


texts = st.text(st.characters(exclude_categories=["Cs"]))
positive = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@given(
    name=texts,
    data=texts,
    model=st.none() | texts,
    resize=st.none() | st.integers(8, 64),
    lr=positive,
    seed=st.integers(0, 2**63 - 1),
    quorum=st.integers(1) | st.floats(0, 1, exclude_min=True) | st.just("all"),
    scale_lr=st.booleans(),
)
def test_any_settings_round_trip(
    directory: Path,
    name: str,
    data: str,
    model: str | None,
    resize: int | None,
    lr: float,
    seed: int,
    quorum: int | float | str,
    scale_lr: bool,
) -> None:
    settings = Settings(
        model=ModelSettings(name=name),
        training=TrainingSettings(lr_generator=lr, seed=seed, quorum=quorum, scale_lr=scale_lr),  # type: ignore[arg-type]
        hub=HubSettings(data=data),
        node=NodeSettings(model=model, resize=resize),
    )
    file = write(directory, dump_toml(settings))
    loaded = load_settings(file, {}, {})
    assert loaded == settings
    assert type(loaded.training.quorum) is type(settings.training.quorum)


def test_every_preset_of_the_exact_reduction_is_an_allowed_value() -> None:
    for name, value in EXACT_REDUCTION.items():
        assert msgspec.convert(value, config.KEYS[f"training.{name}"].type) == value
