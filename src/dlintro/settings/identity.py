"""Decides whether two runs are the same: they are if all settings that affect the result agree.

A key at its default enters no hash and no comparison. Runs from before a key was added therefore keep their hashes.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from dlintro.settings.conf import defaults, option, options
from dlintro.settings.key import leaves
from dlintro.settings.keys import NOT_HASHED

WHICH = {"model": "model._target_", "data": "data.name"}  # these always count, as the defaults depend on them


def counted(config: Mapping[str, Any], left_out: Collection[str] = NOT_HASHED) -> dict[str, Any]:
    """Return the leaves that aren't at their defaults. Keys and groups in `left_out` don't count."""
    known = defaults_of(config)
    return {
        name: value
        for name, value in leaves(config)
        if not is_of(name, left_out) and (name in WHICH.values() or name not in known or known[name] != value)
    }


def defaults_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of all keys for the configuration's model and data set."""
    told, known = dict(leaves(config)), dict(defaults())
    for group, which in WHICH.items():
        files = (option(group, name) for name in options(group))
        known |= next((file for file in files if which in told and file[which] == told[which]), {})
    return known


def is_of(name: str, keys: Collection[str]) -> bool:
    """Return whether a leaf is one of the keys or belongs to one of the groups among them."""
    return name in keys or name.partition(".")[0] in keys


def config_hash(config: Mapping[str, Any], weights: str | None = None) -> str:
    """Return the first 16 hex digits of SHA-256 over the sorted leaves that affect a run's result. Paths of the user's
    own files don't count. `weights` is the fingerprint of those that the training starts from, if it does."""
    told = counted(config) | ({"model.weights": weights} if weights else {})
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys that affect the result and differ: {key: (old value, new value)}."""
    (ours, known), (theirs, known_now) = ((counted(config), defaults_of(config)) for config in (old, new))
    names = sorted(ours.keys() | theirs.keys())
    both = {name: (ours.get(name, known.get(name)), theirs.get(name, known_now.get(name))) for name in names}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}
