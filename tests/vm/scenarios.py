"""What happens in a guest once, beside its conditions: a script, and what must have come of it."""

import json
from dataclasses import dataclass
from typing import Callable

from expectations import DONE, FAILED, NOTHING_RAN, parsed
from machines import listed

BAD_INPUT = 2
SEEN_ELSEWHERE = {'MIGRATED'}


@dataclass(frozen=True)
class Scenario:
    script: str
    check: Callable  # (report, machine, results)


UNPLUG = '''
# unplug NAME CPU ARGUMENTS...: a run, under which the CPU is taken away and given back.
unplug() {
  local name=$1 cpu=$2
  shift 2
  step "unplug/$name" schedlab run switch_cost --full --processes 12 --json "$@" &
  local tries=0
  until [ "$(left_behind | wc -l)" -ge 2 ] || [ $((tries += 1)) = 50 ]; do
    sleep 0.2
  done
  sleep 2  # one of the first of twelve replicates measures
  switch_cpu "$cpu" 0
  wait
  note "unplug/$name.left" left_behind
  switch_cpu "$cpu" 1
}
note unplug/before cat $cpus/online
unplug planned 7 --place cpus:6,7 --set switch_cost.mechanism=futex,pipe
unplug sibling 1 --set switch_cost.mechanism=pipe
note unplug/after cat $cpus/online
step unplug/again schedlab run switch_cost --smoke --json --place cpus:6,7
'''


def is_floor(series):
    return series['params'].get('role') == 'floor'


def went_elsewhere(series):
    """Where samples of a placed series ran beside the CPUs it names."""
    planned = set(series['placement']['cpus'])
    seen = {cpu for metric in series['metrics'] for run in metric['per_run'] for cpu in run['cpus']}
    return sorted(seen - planned) if planned else []


def check_unplug(report, machine, results):
    """A CPU that goes away ends in an error that names it, or in flagged series; never in numbers
    of other CPUs than the result says."""
    everything = f'0-{machine.count - 1}'
    for name, cpu in (('planned', 7), ('sibling', 1)):
        step = f'unplug/{name}'
        document = parsed(report, results, step)
        report.expect_equal(f'the programs left behind by {step}',
                            results.output(f'{step}.left').strip(), '')
        if not document:
            continue
        lab = document['labs'][0]
        flagged = [series for series in lab['series'] if SEEN_ELSEWHERE
                   & {warning['code'] for warning in series['warnings']}]
        report.expect(f'{step} says that CPU {cpu} has gone',
                      lab['status'] == 'failed' and 'CPU' in lab['reason'] or flagged,
                      f'{lab["status"]}: {lab["reason"]}')
        report.expect_equal(f'the exit status of {step}', results.status(step),
                            FAILED if lab['status'] == 'failed' else DONE)
        for series in lab['series']:
            report.expect(f'{step}, {series["name"]}: only flagged samples ran elsewhere',
                          series in flagged or not went_elsewhere(series), went_elsewhere(series))
    for when in ('before', 'after'):
        report.expect_equal(f'the CPUs online {when}', results.output(f'unplug/{when}').strip(),
                            everything)
    report.expect_equal('the exit status of a run afterwards', results.status('unplug/again'), DONE)


FOREIGN = '''
step foreign/here schedlab topology --json
other='pack:4 l3:1 core:1 pu:2'
step foreign/xml schedlab topology --input "$other" --export xml
export HWLOC_XMLFILE=/results/foreign/xml.out
step foreign/topology schedlab topology --json
step foreign/plan schedlab run switch_cost --plan
step foreign/run schedlab run null switch_cost --smoke --json
step foreign/doctor schedlab doctor
unset HWLOC_XMLFILE
step foreign/own schedlab topology --export xml
export HWLOC_XMLFILE=/results/foreign/own.out
step foreign/own_topology schedlab topology --json
unset HWLOC_XMLFILE
'''


def check_foreign(report, machine, results):
    """Another machine's topology is shown and planned for; nothing is pinned by it."""
    other = parsed(report, results, 'foreign/topology')
    report.expect_equal('foreign', other and other['foreign'], True)
    report.expect_equal('the pair for smt in the foreign topology',
                        other and other['relations']['smt']['cpus'], [0, 1])
    report.expect_equal('the pair for numa in the foreign topology',
                        other and other['relations']['numa']['cpus'], [0, 2])
    report.expect_equal('the exit status of --plan', results.status('foreign/plan'), DONE)
    for step in ('foreign/run', 'foreign/doctor'):
        report.expect_equal(f'the exit status of {step}', results.status(step), NOTHING_RAN)
        report.expect(f'{step} says that this is another machine',
                      'another machine' in results.errors(step), results.errors(step))
    own = parsed(report, results, 'foreign/own_topology')
    here = parsed(report, results, 'foreign/here')
    for key in ('cpus', 'caches', 'nodes'):
        strip = json.dumps if key != 'cpus' else lambda cpus: [
            {**cpu, 'usable': True} for cpu in cpus]
        report.expect(f'the exported XML gives the same {key} back',
                      own and here and strip(own[key]) == strip(here[key]), own and own[key])


# Placement, exit status, and a part of what is printed to standard error.
BAD_PLACES = (
    ('cpus:8', 'no CPU 8'),
    ('cpus:0-8', 'no CPU 8'),
    ('numa:2', 'no such object'),
    ('core:4', 'no such object'),
    ('0x100', 'no CPU 8'),
    ('die:0', 'no such object'),
)
# Placement, and the pair of CPUs it stands for.
GOOD_PLACES = (('cpus:5', [5, 5]), ('pu:5', [5, 5]), ('core:2', [4, 5]), ('numa:1', [4, 5]),
               ('package:1.core:1', [6, 7]), ('package:0-1.core:1.pu:0', [2, 6]), ('0x30', [4, 5]),
               ('scatter', [0, 4]), ('per-core', [0, 2]), ('compact', [0, 1]))

PLACES = '\n'.join(
    [f'step places/bad{i} schedlab run null --smoke --json --place {place}'
     for i, (place, _) in enumerate(BAD_PLACES)] +
    [f'step places/good{i} schedlab run switch_cost --smoke --json --place {place} '
     '--set switch_cost.mechanism=futex'
     for i, (place, _) in enumerate(GOOD_PLACES)])


def check_places(report, machine, results):
    """A location is refused by name, or bound to and read back."""
    for i, (place, reason) in enumerate(BAD_PLACES):
        step = f'places/bad{i}'
        report.expect_equal(f'the exit status of --place {place}', results.status(step), BAD_INPUT)
        report.expect(f'--place {place} is refused: "{reason}"', reason in results.errors(step),
                      results.errors(step))
    for i, (place, cpus) in enumerate(GOOD_PLACES):
        step = f'places/good{i}'
        report.expect_equal(f'the exit status of --place {place}', results.status(step), DONE)
        document = parsed(report, results, step)
        ran = document['labs'][0]['series'] if document else []
        pairs = [series['placement']['cpus'] for series in ran if not is_floor(series)]
        report.expect(f'--place {place} stands for CPUs {cpus}',
                      pairs and all(pair == cpus for pair in pairs), pairs)
        for series in ran:
            elsewhere = went_elsewhere(series)
            report.expect(f'--place {place}, {series["name"]} ran there', not elsewhere, elsewhere)


POOLS = '''
echo '+cpu +memory' >/sys/fs/cgroup/cgroup.subtree_control
step pools/memory schedlab run pool_survival --smoke --json --set pool_survival.part=memory
cgroup=/sys/fs/cgroup/half
mkdir $cgroup
echo '50000 100000' >$cgroup/cpu.max
step pools/half schedlab run pool_survival pool_dispatch --smoke --json \\
  --set pool_survival.part=outside,timeout,memory \\
  --set pool_dispatch.part=trip --set pool_dispatch.waiting=block
note pools/stopped cat $cgroup/cpu.stat
cgroup=
tries=0  # what dies with its parent may take a moment longer
until rmdir /sys/fs/cgroup/half || [ $((tries += 1)) = 25 ]; do
  sleep 0.2
done
note pools/left left_behind
note pools/folders find /sys/fs/cgroup -name 'schedlab*' -o -name half
echo '-cpu -memory' >/sys/fs/cgroup/cgroup.subtree_control
'''
NAMED = 'tasks lost, begun twice, hurt or blamed wrongly'


def check_pool(report, name, series):
    """Its checks say that no task was lost, and that each death had its right name."""
    report.expect(f'{name} has run, or is skipped with a reason',
                  series['status'] == 'skipped' and series['reason'] or series['checks'],
                  f'{series["status"]}: {series["reason"]}')
    for check in series['checks']:
        report.expect(f'{name}: check "{check["name"]}" holds', check['ok'],
                      f'expected {check["expected"]}, seen {check["seen"]}')


def check_pools(report, machine, results):
    """Pools work under a quota of half a CPU, and name a death for want of memory, in cgroups of
    version 2."""
    documents = [parsed(report, results, f'pools/{step}') for step in ('memory', 'half')]
    if not all(documents):
        return
    for step, document in zip(('memory', 'half'), documents):
        report.expect_equal(f'the exit status of pools/{step}', results.status(f'pools/{step}'),
                            DONE)
        for lab in document['labs']:
            for series in lab['series']:
                check_pool(report, f'{step}: {lab["name"]} {series["name"]}', series)
    named = {(step, series['name']): NAMED in [check['name'] for check in series['checks']]
             for step, document in zip(('memory', 'half'), documents)
             for lab in document['labs'] if lab['name'] == 'pool_survival'
             for series in lab['series']}
    # A cgroup of processes hands no memory control on.
    report.expect_equal('the deaths that are looked at', named,
                        {('memory', 'memory'): True, ('half', 'outside'): True,
                         ('half', 'timeout'): True, ('half', 'memory'): False})
    report.expect_equal('the quota', documents[1]['env']['limits']['quota_cpus'], 0.5)
    stopped = dict(line.split() for line in results.output('pools/stopped').splitlines())
    report.expect('the quota has stopped them', int(stopped['nr_throttled']) > 0, stopped)
    for what in ('left', 'folders'):
        report.expect_equal(f'pools/{what}', results.output(f'pools/{what}').strip(), '')


SCENARIOS = {
    'unplug': Scenario(UNPLUG, check_unplug),
    'foreign': Scenario(FOREIGN, check_foreign),
    'places': Scenario(PLACES, check_places),
    'pools': Scenario(POOLS, check_pools),
}
