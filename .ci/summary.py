"""Tells what a row of test runs did: suites, what ran, what was skipped and why. A skip that
tests/expected_skips does not list is a failure. Use: summary.py NAME=BUILD_FOLDER...

A run whose folder has no test log counts as one failure.
"""

import fnmatch
import json
import re
import sys
from collections import Counter, namedtuple
from pathlib import Path

EXPECTED_SKIPS = Path(__file__).parent.parent / 'tests' / 'expected_skips'
MAX_LINES = 40  # of the output of a failed test
MAX_COLUMNS = 200
PASSED = {'OK', 'EXPECTEDFAIL'}

Skip = namedtuple('Skip', 'place reason')
Rule = namedtuple('Rule', 'place reason')


def rules(text):
    """The lines PLACE: REASON of expected_skips, both with * and ?."""
    for line in text.split('\n'):
        if line.strip() and not line.startswith('#'):
            place, _, reason = line.partition(': ')
            yield Rule(place.strip(), reason.strip())


def is_expected(skip, expected):
    return any(fnmatch.fnmatchcase(skip.place, rule.place)
               and fnmatch.fnmatchcase(skip.reason, rule.reason) for rule in expected)


def skips_of(place, test):
    """The skips of one test: of all of it, or of cases in it."""
    output = f"{test.get('stdout') or ''}\n{test.get('stderr') or ''}"
    cases = re.findall(r'Test (?:case|suite) "([^"]+)" is skipped because (.*)', output)
    cases += re.findall(r'^(test_\w+) .*\.\.\. skipped [\'"](.*)[\'"]$', output, re.MULTILINE)
    for case, reason in cases:
        yield Skip(f'{place}/{case}', reason.removeprefix('precondition failed: '))
    if test['result'] == 'SKIP' and not cases:
        reasons = re.findall(r'skipped: (.*)', output)
        yield Skip(place, reasons[-1] if reasons else 'no reason given')


def read_log(folder):
    log = Path(folder) / 'meson-logs' / 'testlog.json'
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def end_of_output(test):
    """What a failed test printed last, without the lines that only say where it was."""
    output = f"{test.get('stdout') or ''}\n{test.get('stderr') or ''}"
    told = re.sub(r'.*(Entering|Leaving) test (suite|case|module).*', '', output)
    lines = [line for line in told.split('\n') if line.strip()]
    return [line[:MAX_COLUMNS] for line in lines[-MAX_LINES:]]


def print_skips(word, skips):
    """One line for each reason, with the tests that gave it."""
    reasons = {}
    for skip in sorted(set(skips)):
        reasons.setdefault(skip.reason, []).append(skip.place)
    for reason, places in reasons.items():
        print(f"{word}: {reason}: {', '.join(places)}")


def report(run, folder, expected):
    """Prints one run; gives its numbers of tests passed, failed, skipped, and what failed."""
    tests = read_log(folder)
    if not tests:
        return Counter(failed=1), [f'{run}: no test ran']
    suites, total, skips, failures = {}, Counter(), {'skip': [], 'UNEXPECTED SKIP': []}, []
    for test in tests:
        suite, _, name = test['name'].partition(' / ')
        suite = suite.rpartition(':')[2].partition('+')[0]
        outcome = 'passed' if test['result'] in PASSED else \
            'skipped' if test['result'] == 'SKIP' else 'failed'
        for skip in skips_of(f'{run}/{suite}/{name}', test):
            unexpected = not is_expected(skip, expected)
            outcome = 'failed' if unexpected else outcome
            skips['UNEXPECTED SKIP' if unexpected else 'skip'].append(skip)
        if outcome == 'failed':
            failures += [f'{run}: FAILED {suite}/{name} ({test["result"]})', *end_of_output(test)]
        suites.setdefault(suite, Counter())[outcome] += 1
        total[outcome] += 1
    for suite, count in suites.items():
        print(f"{run:<10} {suite:<12} ran {count['passed'] + count['failed']:>4}   "
              f"failed {count['failed']:>3}   skipped {count['skipped']:>3}")
    for word, found in skips.items():
        print_skips(word, found)
    return total, failures


def main(arguments):
    expected = list(rules(EXPECTED_SKIPS.read_text()))
    total, failures = Counter(), []
    for argument in arguments:
        run, _, folder = argument.partition('=')
        counts, failed = report(run, folder, expected)
        total += counts
        failures += failed
    print(*failures, sep='\n')
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total['failed'] or not total['passed'] else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
