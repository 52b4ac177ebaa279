"""Paired comparisons of two programs that measure the same thing.

A row is 20 pairs fixed beforehand, in ABBA order, all of them kept, with an A/A of the peer as the
noise floor. The interval is that of the median ratio, from order statistics of the log ratios.
"""
import math


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


def compare(ours, peer, pairs=20):
    """Calls both in ABBA order; gives (ratio interval ours/peer, A/A interval of the peer)."""
    ratios, same = [], []
    for pair in range(pairs):
        order = ("ours", "peer", "peer again") if pair % 2 == 0 else ("peer again", "peer", "ours")
        seen = {}
        for who in order:
            seen[who] = ours() if who == "ours" else peer()
        ratios.append(seen["ours"] / seen["peer"])
        same.append(seen["peer again"] / seen["peer"])
    return ratio_interval(ratios), ratio_interval(same)


def within(interval, share):
    """The verdict of "within d %": the whole interval lies inside."""
    _, low, high = interval
    if low is None:
        return "cannot tell here"
    if 1 - share <= low and high <= 1 + share:
        return "met"
    return "missed" if high < 1 - share or low > 1 + share else "cannot tell here"


def show(interval):
    value, low, high = interval
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f} {high:.3f}]"
