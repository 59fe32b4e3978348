"""The live line of `scripts/claims`."""

import time
from collections.abc import Mapping
from typing import Self

from dlintro.terminal import Field, Live
from dlintro.text import duration


class Watch:
    """The live line of the experiments. `seconds`: what each claim takes by its own estimate, in order. It is drawn
    between two measurements only: it must not take time from what is timed."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds, self.live = seconds, Live()
        self.name, self.since, self.began = "", 0.0, time.monotonic()

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def begin(self, name: str) -> None:
        self.name, self.since = name, time.monotonic()
        self.say("")

    def say(self, words: str) -> None:
        now, names = time.monotonic(), list(self.seconds)
        number, total = names.index(self.name), sum(self.seconds.values())
        before = sum(self.seconds[name] for name in names[:number])
        done = before + min(now - self.since, 0.95 * self.seconds[self.name])
        pace = (self.since - self.began) / before if before else 1.0  # of this machine, to the estimates
        fields = [Field("claim", f"{number + 1}/{len(names)}", 1), Field("", self.name, 0), Field("", words, 4)]
        fields.append(Field("", f"about {duration((total - done) * pace)} left", 2))
        self.live.show_fields(fields, done / total, bar_rank=3)
