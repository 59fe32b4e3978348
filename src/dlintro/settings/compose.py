"""From words to settings: the one place where a composed configuration becomes typed. Hydra is imported when called."""

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
    """The settings of a composed configuration. `chosen`: the option of each group, Hydra's own groups among them.
    UsageError where a key is unknown or a value illegal."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        plain: Any = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UsageError(limits.no_value(f"{error.full_key}=???", "is not allowed")) from error
    except OmegaConfBaseException as error:  # a ${...} that leads nowhere
        raise UsageError(limits.no_value(str(error.full_key), f"has no value, {str(error).splitlines()[0]}")) from error
    choices = {group: chosen.get(group) for group in GROUPS}
    limits.check(plain, choices)
    limits.check_whole(plain)
    return Settings.of({**plain, "choices": choices})


def compose(words: Sequence[str]) -> Settings:
    """The settings that `scripts/train` would have with these words."""
    from hydra import compose as composed
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = composed("train", with_typed_length(list(words), words), return_hydra_config=True)
    HydraConfig.instance().cfg = None
    return read(config, config.hydra.runtime.choices)


def with_typed_length(words: list[str], typed: Sequence[str]) -> list[str]:
    """The words of a command, in which a typed number of steps is the length of the training: the epochs of conf/ or of
    an experiment's file, which nobody typed, don't end it. `typed`: those of the words that are not taken from the
    record of a run or sweep, which keeps the length that it began with. UsageError where steps are typed for a sweep
    that compares equal epochs."""
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
