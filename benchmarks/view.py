"""The live view in a real JupyterLab, side by side with ``update_display(Markdown(text_so_far))`` at 20 Hz.

``make bench-view``, or ``python benchmarks/view.py [--quick] [--long-baseline]``. Prints a report and writes it to
``benchmarks/VIEW.md``. Needs Chromium and a quiet machine: what else runs makes long tasks of short ones.
"""

from __future__ import annotations

import argparse
import os
import time

from paced_server import KINDS
from view_measure import AWAITED, BASELINE, HERE, MAGIC, UNSEEN, Bench, Tab
from view_report import RATE, Results, report

WARM_UP = "await agent('tokens-20-rate-1000-prose').chat('Begin')"


def model(tokens: int, kind: str = "prose") -> str:
    return f"tokens-{tokens}-rate-{RATE}-{kind}"


def measure(bench: Bench, *, tokens: int, rounds: int, long: int, options: argparse.Namespace) -> Results:
    found, at = Results(), Tab.FIRST
    for number in range(rounds):
        say(f"{tokens:,} tokens, round {number + 1} of {rounds}")
        with bench.tab(model(tokens), [MAGIC, AWAITED, UNSEEN]) as tab:
            found.first.append(tab.run(at))
            found.second.append(tab.run(at + 1))
            found.unseen.append(tab.run_unwatched(at + 2))
        with bench.tab(model(tokens), [BASELINE]) as tab:
            found.baseline.append(tab.run(at, baseline=True))
    for reader in ("bottom", "middle"):
        views = [("live view", MAGIC), ("baseline", BASELINE)]
        for view, cell in views[:1] if options.quick else views:
            say(f"scrolling: {view}, {reader}")
            with bench.tab(model(tokens), [cell]) as tab:
                found.scroll[view, reader] = tab.run(at, baseline=view == "baseline", reader=reader)
    answers = [(f"prose, {long:,} tokens", model(long))]
    answers += [(f"one endless {kind}, {tokens:,} tokens", model(tokens, kind)) for kind in KINDS[1:]]
    for name, its_model in answers:
        say(name)
        with bench.tab(its_model, [WARM_UP, AWAITED]) as tab:
            tab.run_unwatched(at)
            found.long[name] = tab.run(at + 1)
    if options.long_baseline:
        say(f"baseline, {long:,} tokens")
        with bench.tab(model(long), [BASELINE]) as tab:
            found.long[f"baseline: prose, {long:,} tokens"] = tab.run(at, baseline=True)
    return found


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, shorter answers")
    parser.add_argument("--long-baseline", action="store_true", help="the longest answer for the baseline too")
    options = parser.parse_args()
    tokens, rounds, long = (2_000, 1, 10_000) if options.quick else (5_000, 3, 50_000)
    before = os.getloadavg()[0]
    with Bench() as bench:
        found = measure(bench, tokens=tokens, rounds=rounds, long=long, options=options)
    flags = "".join(f" --{name.replace('_', '-')}" for name, on in vars(options).items() if on)
    command = f"python benchmarks/view.py{flags}"
    text = report(found, command, tokens, long, (before, os.getloadavg()[0]))
    (HERE / "VIEW.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
