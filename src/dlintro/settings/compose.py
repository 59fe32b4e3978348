"""From words to settings: the one place where a composed configuration becomes typed. Hydra is imported when called."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlintro.errors import UsageError
from dlintro.settings import limits
from dlintro.settings.conf import CONF
from dlintro.settings.keys import GROUPS, Settings

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
        config = composed("train", list(words), return_hydra_config=True)
    HydraConfig.instance().cfg = None
    return read(config, config.hydra.runtime.choices)
