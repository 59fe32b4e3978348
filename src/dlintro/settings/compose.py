"""The one place where a composed configuration becomes typed settings. Hydra is imported inside the functions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlintro.errors import UsageError
from dlintro.settings import limits
from dlintro.settings.conf import CONF, option, options
from dlintro.settings.keys import GROUPS, Settings
from dlintro.settings.words import key_of, value_of

if TYPE_CHECKING:
    from omegaconf import DictConfig


def read(config: "DictConfig", chosen: Mapping[str, Any]) -> Settings:
    """Check a composed configuration and return its settings. `chosen` gives the option of each group, Hydra's own
    groups included. Raises UsageError if a key is unknown or a value illegal."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    without_hydra = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        plain: Any = OmegaConf.to_container(without_hydra, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UsageError(limits.no_value(f"{error.full_key}=???", "is not allowed")) from error
    except OmegaConfBaseException as error:  # a ${...} that leads nowhere
        raise UsageError(limits.no_value(str(error.full_key), f"has no value, {str(error).splitlines()[0]}")) from error
    choices = {group: chosen.get(group) for group in GROUPS}
    limits.check(plain, choices)
    limits.check_whole(plain)
    return Settings.of({**plain, "choices": choices})


def compose(words: Sequence[str]) -> Settings:
    """Return the settings that `scripts/train` would have with these arguments."""
    from hydra import compose as composed
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = composed("train", with_typed_length(list(words), words), return_hydra_config=True)
    HydraConfig.instance().cfg = None
    return read(config, config.hydra.runtime.choices)


def with_typed_length(words: list[str], typed: Sequence[str]) -> list[str]:
    """Let a typed trainer.max_steps alone decide the length of the training. The number of epochs in conf/ or in an
    experiment's file, which nobody typed, would otherwise end it earlier. `typed` holds the words that were typed now;
    the others come from the record of a run or sweep, which keeps the length that it began with. Raises UsageError if
    steps are typed for a sweep that compares equal epochs."""
    given, now = ({key_of(word): value_of(word) for word in some} for some in (words, typed))
    steps = now.get("trainer.max_steps", "null")
    if "null" in steps.split(",") or now.get("resume", "null") not in ("null", ""):
        return words
    sweep = given.get("sweep", "")
    budget = given.get("sweep.budget", option("sweep", sweep).get("sweep.budget") if sweep in options("sweep") else "")
    if budget in ("null", ""):
        budget = None
    if budget == "epochs":
        raise UsageError(
            f"trainer.max_steps={steps}: with sweep.budget=epochs all settings train for trainer.max_epochs; type "
            f"sweep.budget=steps to give them all this many steps"
        )
    return words if budget or "trainer.max_epochs" in given else [*words, "trainer.max_epochs=null"]
