"""scripts/train --help."""

from dlintro.settings.conf import default_options, defaults, options
from dlintro.settings.keys import GROUPS, TABLE
from dlintro.settings.limits import brief


def print_help() -> None:
    print("scripts/train [GROUP=OPTION] [KEY=VALUE] ...    train an image classifier\n")
    chosen = default_options()
    for group in GROUPS:
        print(f"  {group}={' | '.join(options(group))}    (default: {chosen[group] or 'none'})")
    print("\n  lists in quotes:         'model.hidden=[512,512]'")
    print("  several runs:            -m data.batch_size=32,64 'seed=range(3)'; the same line again resumes them")
    print("  the whole configuration: --cfg job")
    print("  your own config files:   --config-dir DIR\n\nKeys, with their defaults:")
    found = defaults()
    for key in TABLE.values():
        default = found[key.name]
        only = f"  ({key.group}={'|'.join(key.only)})" if key.only else ""
        print(f"\n{key.name}={brief(default)}{only}\n    {key.meaning}\n    values: {key.legal()}")
