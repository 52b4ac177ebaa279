"""What schedlab must say in a condition of a machine. Each expectation is a sentence; one that does
not hold is kept with what was seen instead. Times are no part of any: under TCG they mean nothing.
"""

import json
from collections import Counter

from labs import check_one_lab
from machines import RELATIONS, as_list, listed

DONE, FAILED, NOTHING_RAN = 0, 1, 77
SWITCHES = 'context switches counted against expected'


class Report:
    """Sentences that hold, by number, and those that do not, by text."""

    def __init__(self):
        self.place = ''
        self.kept = 0
        self.broken = []

    def expect(self, sentence, holds, seen=''):
        if holds:
            self.kept += 1
        else:
            self.broken.append(f'{self.place}: {sentence}, but: {seen}')

    def expect_equal(self, subject, seen, wanted):
        self.expect(f'{subject} is {wanted!r}', seen == wanted, repr(seen))


def parsed(report, results, step):
    """The JSON that a step printed, or None."""
    try:
        return json.loads(results.output(step))
    except (KeyError, ValueError) as problem:
        report.expect(f'{step} prints JSON', False,
                      f'{problem}; {results.errors(step).strip()[-300:]}')
        return None


class View:
    """A condition's machine as its CPUs see it: the online ones, in the order of hwloc's tree,
    which is that of the kernel's numbers in a QEMU guest."""

    def __init__(self, machine, condition):
        self.machine = machine
        self.condition = condition
        off = listed(condition.offline)
        self.online = [cpu for cpu in range(machine.count) if cpu not in off]
        self.usable = listed(condition.usable)

    def logical(self, cpu):
        return self.online.index(cpu)

    def groups(self, key):
        """The kernel lists of online CPUs that are alike by a function, in order."""
        members = {}
        for cpu in self.online:
            members.setdefault(key(cpu), []).append(cpu)
        return [as_list(cpus) for cpus in members.values()]

    def rank(self, key, cpu):
        return sorted({key(one) for one in self.online}).index(key(cpu))


def check_sets(report, view, topology):
    """Who may be used, and who takes the others away."""
    condition = view.condition
    everything = as_list(view.online)
    report.expect_equal('foreign', topology['foreign'], False)
    report.expect_equal('online', topology['online'], everything)
    report.expect_equal('offline', topology['offline'], condition.offline)
    report.expect_equal('usable', topology['usable'], condition.usable)
    report.expect_equal('what the cgroup allows', topology['allowed'],
                        condition.cpuset or everything)
    losses = {'offline': condition.offline,
              'cgroup': as_list(set(view.online) - set(listed(condition.cpuset)))
              if condition.cpuset else '',
              'affinity': as_list(set(view.online) - set(listed(condition.affinity)))
              if condition.affinity else ''}
    report.expect_equal('what cannot be used, and why', topology['unusable'],
                        {who: cpus for who, cpus in losses.items() if cpus})


def check_cpus(report, view, topology):
    machine = view.machine
    kernel_number = {node['logical']: node['os'] for node in topology['nodes']}
    report.expect_equal('the order of the CPUs', [cpu['os'] for cpu in topology['cpus']],
                        view.online)
    for cpu in topology['cpus']:
        number = cpu['os']
        in_core = [other for other in view.online if machine.core(other) == machine.core(number)]
        wanted = {'logical': view.logical(number), 'smt': in_core.index(number),
                  'core': view.rank(machine.core, number),
                  'l3': view.rank(machine.die, number) if machine.l3 else None,
                  'die': view.rank(machine.die, number) if machine.dies > 1 else None,
                  'package': view.rank(machine.package, number), 'numa_os': machine.node(number),
                  'usable': number in view.usable}
        report.expect_equal(f'CPU P#{number}', {key: cpu[key] for key in wanted}, wanted)
        report.expect_equal(f'the node of CPU P#{number} by both its numbers',
                            kernel_number.get(cpu['numa']), machine.node(number))


def check_caches(report, view, topology):
    machine = view.machine
    for level, wanted in ((2, view.groups(machine.core)),
                          (3, view.groups(machine.die) if machine.l3 else [])):
        seen = [cache['cpus'] for cache in topology['caches'] if cache['level'] == level]
        report.expect_equal(f'who shares each L{level}', seen, wanted)


def check_nodes(report, view, topology):
    machine = view.machine
    nodes = sorted(topology['nodes'], key=lambda node: node['os'])
    report.expect_equal('the nodes', [node['os'] for node in nodes],
                        list(range(len(machine.nodes))))
    report.expect_equal('the logical numbers of the nodes',
                        [node['logical'] for node in topology['nodes']],
                        list(range(len(machine.nodes))))
    order = [node['os'] for node in topology['nodes']]
    for node, wanted in zip(nodes, machine.nodes):
        name = f"node P#{node['os']}"
        cpus = as_list(set(listed(wanted.cpus)) & set(view.online))
        report.expect_equal(f'the CPUs of {name}', node['cpus'], cpus)
        report.expect(f'{name} has about {wanted.mib} MiB',
                      0.7 * wanted.mib < node['memory'] / 2**20 <= wanted.mib, node['memory'])
        if len(machine.nodes) > 1:
            report.expect_equal(f'the distances of {name}', node['distances'],
                                [10 if node['os'] == other else machine.distance
                                 for other in order])


def check_relations(report, view, topology):
    condition = view.condition
    first = view.usable[0]
    pairs = {'same-pu': (first, first), 'unpinned': (first, first), **condition.pairs}
    for relation in RELATIONS:
        seen = topology['relations'].get(relation, {})
        if relation in pairs:
            report.expect_equal(f'the pair for {relation}', seen.get('cpus'),
                                list(pairs[relation]))
            continue
        reason = seen.get('reason', '')
        report.expect(f'there is no pair for {relation}, with a reason',
                      seen.get('cpus') is None and reason, seen)
        report.expect(f'the reason that {relation} is absent holds "'
                      f'{condition.absent.get(relation, "")}"',
                      condition.absent.get(relation, '') in reason, reason)


def check_topology(report, view, topology):
    for check in (check_sets, check_cpus, check_caches, check_nodes, check_relations):
        check(report, view, topology)


def check_doctor(report, view, doctor):
    finding = next(one for one in doctor['findings'] if one['name'] == 'cpus')
    whole = view.usable == view.online
    report.expect_equal("the state of doctor's CPUs", finding['state'], 'ok' if whole else 'note')
    text = f'{len(view.usable)} of {len(view.online)} online CPUs are usable ' \
           f'({view.condition.usable})'
    report.expect(f'doctor says "{text}"', text in finding['finding'], finding['finding'])
    smt = next(one for one in doctor['findings'] if one['name'] == 'smt')
    shared = any(',' in group or '-' in group for group in view.groups(view.machine.core))
    report.expect_equal("the state of doctor's SMT", smt['state'], 'note' if shared else 'ok')


def check_placement(report, view, name, series):
    """The planned CPUs may be used, have the right logical numbers and are related as it says."""
    where = series['placement']
    cpus = where['cpus']
    report.expect(f'{name} is planned on usable CPUs', set(cpus) <= set(view.usable), cpus)
    report.expect_equal(f'{name}: logical numbers of {cpus}', where['logical'],
                        [view.logical(cpu) for cpu in cpus if cpu in view.online])
    if len(cpus) == 2 and set(cpus) <= set(view.usable) and where['relation'] in RELATIONS:
        report.expect_equal(f'{name}: relation of CPUs {cpus}', where['relation'],
                            view.machine.relation(*cpus))


def is_by_chance(series, check):
    """A task on another CPU may be given its turn before it sleeps, and then need not be woken. On
    one CPU only the first and the last hand-over may do without a switch."""
    if check['name'] != SWITCHES:
        return False
    return series['placement']['relation'] != 'same-pu' or check['expected'] - check['seen'] <= 2


def check_proof(report, view, name, series):
    """Its samples ran where they were to, and what it says of itself (pages, nodes) is true."""
    planned = set(series['placement']['cpus']) or set(view.usable)
    for metric in series['metrics']:
        for run in metric['per_run']:
            report.expect(f'{name} ran on {sorted(planned)} only', set(run['cpus']) <= planned,
                          run['cpus'])
    for check in series['checks']:
        report.expect(f'{name}: check "{check["name"]}" holds',
                      check['ok'] or is_by_chance(series, check),
                      f'expected {check["expected"]}, seen {check["seen"]}')


def check_series(report, view, lab, series):
    name = f'{lab["name"]} {series["name"]}'
    report.expect(f'{name} has not failed', series['status'] != 'failed', series['reason'])
    check_placement(report, view, name, series)
    if series['status'] == 'skipped':
        report.expect(f'{name} is skipped with a reason', series['reason'])
        return
    report.expect(f'{name} ran in all its processes', not series['reason'], series['reason'])
    check_proof(report, view, name, series)


def check_lab(report, view, lab, listing):
    here = listing[lab['name']]
    wanted = view.condition.skipped.get(lab['name'])
    if wanted is not None or not here['runnable']:
        report.expect_equal(f'the status of {lab["name"]}', lab['status'], 'skipped')
        report.expect(f'{lab["name"]} is skipped because of "{wanted or here["reason"]}"',
                      (wanted or here['reason']) in lab['reason'], lab['reason'])
    else:
        report.expect(f'{lab["name"]} runs here, as list says',
                      lab['status'] in ('ok', 'noisy', 'invalid'),
                      f'{lab["status"]}: {lab["reason"]}')
        check_one_lab(report, view, lab)
    for series in lab['series']:
        check_series(report, view, lab, series)


def is_chosen(lab, names):
    return not names or lab['name'] in names or lab['family'] in names


def check_run(report, view, document, status, listing):
    by_name = {lab['name']: lab for lab in listing}
    chosen = [lab['name'] for lab in listing if is_chosen(lab, view.condition.labs)]
    report.expect_equal('the labs of the result', [lab['name'] for lab in document['labs']], chosen)
    report.expect_equal('complete', document['complete'], True)
    report.expect_equal('usable in the result', document['env']['topology']['usable'],
                        view.condition.usable)
    outcomes = Counter(lab['status'] for lab in document['labs'])
    wanted = FAILED if outcomes['failed'] else \
        NOTHING_RAN if outcomes['skipped'] == len(document['labs']) else DONE
    report.expect_equal('the exit status of run', status, wanted)
    for lab in document['labs']:
        check_lab(report, view, lab, by_name)


def check_condition(report, machine, condition, results):
    view = View(machine, condition)
    steps = ['list', 'topology', 'run'] + (['doctor'] if condition.doctor else [])
    said = {step: parsed(report, results, f'{condition.name}/{step}') for step in steps}
    for step in set(steps) - {'run'}:
        report.expect_equal(f'the exit status of {step}',
                            results.status(f'{condition.name}/{step}'), DONE)
    if said['topology']:
        check_topology(report, view, said['topology'])
    if said.get('doctor'):
        check_doctor(report, view, said['doctor'])
    if said['list']:
        for lab in said['list']:
            report.expect(f'list tells why {lab["name"]} cannot run',
                          lab['runnable'] or lab['reason'], lab)
        if said['run']:
            check_run(report, view, said['run'], results.status(f'{condition.name}/run'),
                      said['list'])
