"""Paired comparisons of two programs that measure the same thing.

A row is 20 pairs fixed beforehand, in ABBA order, all of them kept, with an A/A of the peer as the
noise floor. The interval is that of the median ratio, from order statistics of the log ratios.
"""
import json
import math
import subprocess
import typing


def output(command, errors=False):
    """What a command prints, with `errors` on standard error. Its words may be numbers."""
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True,
                          text=True)
    return done.stderr if errors else done.stdout


def lab_series(schedlab, lab, cpus, values, processes=6, preset="--quick"):
    """The series of a run of a lab on these CPUs, as the result file has them."""
    command = [schedlab, "run", lab, preset, "--json", "--processes", processes, "--place",
               "cpus:" + ",".join(map(str, cpus))]
    for name, value in values.items():
        command += ["--set", f"{lab}.{name}={value}"]
    return json.loads(output(command))["labs"][0]["series"]


def size_text(size):
    """A number of bytes as in the names of series: 24K, 2M, 1G, 5000."""
    for shift, letter in ((30, "G"), (20, "M"), (10, "K")):
        if size >> shift and size % (1 << shift) == 0:
            return f"{size >> shift}{letter}"
    return str(size)


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def rank(n, level=0.95):
    """The largest k for which order statistics k and n+1-k cover the median with `level`."""
    below = 0.0
    best = 0
    for k in range(n // 2):
        below += math.comb(n, k) / 2**n
        if 1 - 2 * below < level:
            break
        best = k + 1
    return best


def ratio_interval(ratios):
    logs = sorted(math.log(ratio) for ratio in ratios)
    k = rank(len(logs))
    if k == 0:
        return math.exp(median(logs)), None, None
    return math.exp(median(logs)), math.exp(logs[k - 1]), math.exp(logs[len(logs) - k])


class Column(typing.NamedTuple):
    """One number of both programs; no intervals where a run gave none above zero."""
    ours: float  # the median of all runs
    peer: float
    ratio: tuple | None  # interval of ours/peer
    same: tuple | None  # A/A interval of the peer


def compare_columns(ours, peer, pairs=20):
    """Calls both in ABBA order. Each gives several numbers of one run, by name or by position;
    gives a Column for each of those of ours."""
    runs = []
    for pair in range(pairs):
        order = ("ours", "peer", "again") if pair % 2 == 0 else ("again", "peer", "ours")
        runs.append({who: ours() if who == "ours" else peer() for who in order})
    first = runs[0]["ours"]
    return {name: column_of([{who: seen[name] for who, seen in run.items()} for run in runs])
            for name in (first if isinstance(first, dict) else range(len(first)))}


def column_of(runs):
    mine = [run["ours"] for run in runs]
    theirs = [run[who] for run in runs for who in ("peer", "again")]
    if min(mine + theirs) <= 0:
        return Column(median(mine), median(theirs), None, None)
    return Column(median(mine), median(theirs),
                  ratio_interval([run["ours"] / run["peer"] for run in runs]),
                  ratio_interval([run["again"] / run["peer"] for run in runs]))


def compare(ours, peer, pairs=20):
    """The same of one number each; gives (ratio interval ours/peer, A/A interval of the peer)."""
    column = compare_columns(lambda: [ours()], lambda: [peer()], pairs)[0]
    return column.ratio, column.same


def within(interval, share):
    """The verdict of "within d %": the whole interval lies inside."""
    _, low, high = interval
    if low is None:
        return "cannot tell here"
    if 1 - share <= low and high <= 1 + share:
        return "met"
    return "missed" if high < 1 - share or low > 1 + share else "cannot tell here"


def at_least(interval, target=1.0):
    """The verdict of ">= k x": the lower end is at most 3 % below it."""
    _, low, high = interval
    if low is None:
        return "cannot tell here"
    if low >= 0.97 * target:
        return "met"
    return "missed" if high < 0.97 * target else "cannot tell here"


def at_most(interval, limit):
    """The verdict of "<= k x": the upper end is at most 3 % above it."""
    _, low, high = interval
    if low is None:
        return "cannot tell here"
    if high <= 1.03 * limit:
        return "met"
    return "missed" if low > 1.03 * limit else "cannot tell here"


def show(interval, digits=3):
    value, low, high = interval
    if low is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f} {high:.{digits}f}]"


def show_row(name, column, share, digits=0):
    """A row of a table of what is to be within a share of the peer."""
    numbers = f"{column.ours:.{digits}f} | {column.peer:.{digits}f}"
    if column.ratio is None:
        found, verdict = "below resolution |", "cannot tell here"
    else:
        found, verdict = f"{show(column.ratio)} | {show(column.same)}", within(column.ratio, share)
    print(f"| {name} | {numbers} | {found} | within {share:.0%} | {verdict} |", flush=True)


def reading(command):
    """What a command prints, as one number; to be called for each reading."""
    return lambda: float(output(command))


def show_row_at_most(name, column, limit, digits=0):
    """A row of a table of what may take `limit` times the peer's."""
    print(f"| {name} | {column.ours:.{digits}f} | {column.peer:.{digits}f} | {show(column.ratio)} "
          f"| {show(column.same)} | <= {limit} x | {at_most(column.ratio, limit)} |", flush=True)


def row_at_most(name, ours, peer, limit, pairs, digits=0):
    """Compares, and prints such a row."""
    column = compare_columns(lambda: [ours()], lambda: [peer()], pairs)[0]
    show_row_at_most(name, column, limit, digits)


def row_within(name, ours, peer, share, pairs, digits=0):
    """The same of what is to be within a share of the peer's."""
    show_row(name, compare_columns(lambda: [ours()], lambda: [peer()], pairs)[0], share, digits)
