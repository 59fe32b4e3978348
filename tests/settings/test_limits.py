"""The table of keys is complete, and each illegal value is refused in one line that names the key."""

import copy
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dlintro.commands import train as entry
from dlintro.errors import UsageError
from dlintro.settings.conf import CONF, options
from dlintro.settings.help import print_help
from dlintro.settings.key import Key, leaves
from dlintro.settings.keys import GROUPS, TABLE
from dlintro.settings.limits import OTHER_NAMES, check, check_whole, unknown
from tests.conftest import composed


def plain(*words: str) -> tuple[dict[str, Any], Mapping[str, str]]:
    settings = composed(*words)
    return settings.plain(), asdict(settings.choices)


def option_of(key: Key) -> str:
    """Return an override that chooses an option with this key."""
    group = key.name.split(".")[0]
    return f"{group}={key.only[0]}" if key.only else "seed=0"


def illegal(key: Key) -> list[Any]:
    """Return values that are illegal for the key: too small, too large, of another type, not a number, empty."""
    base, is_list = key.kind.removesuffix(" list"), key.kind.endswith("list")
    bad: list[Any] = {
        "int": [key.low - 1, key.high + 1, 1.5, "many", "", math.nan, True],
        "float": [key.low - 1, key.high + 1, "much", "", math.nan, math.inf, -math.inf, True],
        "bool": [2, "maybe", "", 0.5],
        "choice": ["nonsense", "", 3, True],
        "text": ["", 3, True],
    }[base]
    if key.above:
        bad.append(key.low)
    if is_list:
        return [[value] * max(1, key.length[0]) for value in bad] + [5, "a", [0.5] * (key.length[1] + 1)]
    return bad + [[1, 2]] + ([] if key.null else [None])


@pytest.mark.parametrize("key", TABLE.values(), ids=lambda key: key.name)
def test_illegal_values_are_refused_in_one_line_that_names_the_key_and_what_is_legal(key: Key) -> None:
    composition, choices = plain(option_of(key))
    check(composition, choices)
    *parents, last = key.name.split(".")
    place = composition[parents[0]] if parents else composition
    for value in illegal(key):
        place[last] = value
        with pytest.raises(UsageError) as caught:
            check(composition, choices)
        assert str(caught.value).startswith(key.name) and "\n" not in str(caught.value)
        assert key.legal() in str(caught.value)


def typed(value: Any) -> str:
    """Write the value as it is typed on a command line."""
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value) or "''"


@pytest.mark.parametrize("key", TABLE.values(), ids=lambda key: key.name)
def test_illegal_values_are_refused_by_the_command(
    key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    for value in illegal(key):
        word = f"{key.name}={typed(value)}"
        monkeypatch.setattr(sys, "argv", ["dlintro-train"])
        assert entry.main([option_of(key), word] if key.name != "seed" else [word]) == 2, word
        said = capfd.readouterr()
        assert said.err.startswith("dlintro: ") and said.err.count("\n") == 1 and key.name in said.err, said.err
        assert said.out == "" and not list(tmp_path.rglob("train.log")), word


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_mixture_of_values_is_taken_or_refused_by_a_key_that_is_wrong(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(MIXED), min_size=1, max_size=6, unique_by=lambda key: key.name))
    given_, wrong = copy.deepcopy(BASE), set()
    for key in keys:
        *parents, last = key.name.split(".")
        place = given_[parents[0]] if parents else given_
        value = data.draw(st.one_of(st.just(place[last]), st.sampled_from(illegal(key))))
        if not key.accepts(value):
            wrong.add(key.name)
        place[last] = value
    if not wrong:
        check(given_, CHOICES)
        return
    with pytest.raises(UsageError) as caught:
        check(given_, CHOICES)
    assert str(caught.value).split("=")[0] in wrong and "\n" not in str(caught.value)


BASE, CHOICES = plain()
MIXED = [key for key in TABLE.values() if not key.only]


def test_every_leaf_of_conf_is_in_the_table_and_every_row_has_a_leaf() -> None:
    found = {name for name, _ in leaves(yaml.safe_load((CONF / "train.yaml").read_text()))}
    found = {name for name in found if not name.startswith("hydra") and name != "defaults"}
    for group in ("model", "data", "accelerator"):
        for path in (CONF / group).glob("*.yaml"):
            content = yaml.safe_load(path.read_text())
            names = content.get(group, content)  # nested if the file sets keys of other groups too
            found |= {f"{group}.{name}" for name in names if name not in ("defaults", "_target_")}
    assert found == set(TABLE)


def test_an_only_row_names_exactly_the_options_that_have_the_key() -> None:
    groups = ("model", "data")
    found = {(group, name): plain(f"{group}={name}")[0][group] for group in groups for name in options(group)}
    for key in TABLE.values():
        if key.group not in groups:
            assert not key.only
            continue
        group = key.group
        having = [name for name in options(group) if key.argument in found[group, name]]
        assert sorted(key.only) == sorted(having) or (not key.only and len(having) == len(options(group)))


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("data.batch_sze", "data.batch_size"),
        ("batch_size", "data.batch_size"),
        ("epochs", "trainer.max_epochs"),
        ("learning_rate", "optim.lr"),
        ("optim.learning_rate", "optim.lr"),
        ("optimizer", "optim.name"),
        ("optim", "optim.name"),
        ("device", "accelerator"),
        ("lr", "optim.lr"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_one_that_was_meant(slip: str, meant: str) -> None:
    assert f"did you mean {meant}?" in unknown(slip)


def test_the_names_of_other_projects_lead_to_keys_that_are_there() -> None:
    assert set(OTHER_NAMES.values()) <= {*GROUPS, *TABLE}
    assert not OTHER_NAMES.keys() & {*GROUPS, *TABLE}


@pytest.mark.parametrize("columns", [60, 80, 120, 300])
def test_help_lists_every_key_with_default_meaning_and_legal_values_in_the_width_of_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_help()
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= max(columns, 80)
    flat = " ".join(said.split())
    for key in TABLE.values():
        assert f"\n  {key.name}=" in said and f"{key.meaning[1:]}. Use {key.legal()}." in flat
    assert "data.batch_size=128 " in flat and "optim.betas=[0.9, 0.999] " in flat
    assert "Only for model=flatnet, mnist_cnn or vgg16." in flat
    assert flat.index("model=flatnet another model") < flat.index("Groups and their options") < flat.index("seed=0")


def test_a_key_that_a_users_file_leaves_out_is_named() -> None:
    config, _ = plain()
    check_whole(config)
    del config["accelerator"]["index"]  # a user's conf/accelerator/mine.yaml may hold only a name
    with pytest.raises(UsageError, match=r"^accelerator\.index: your configuration has no value for this key"):
        check_whole(config)
