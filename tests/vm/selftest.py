"""Tests what judges the guests: a true answer is accepted, and each false one is found."""

import copy
import json
import re
import sys
import unittest
from pathlib import Path

import expectations
import labs
from boot import condition_script
from guest import Archive, Results
from machines import BOOTS, RELATIONS, Condition, Machine, Node, as_list, listed
from scenarios import NAMED, SCENARIOS

MACHINE = Machine(sockets=2, cores=2, threads=2, distance=21,
                  nodes=(Node('0-3', 1000), Node('4-7', 1000)))
WHOLE = Condition('whole', usable='0-7', pairs={'smt': (0, 1), 'l3': (0, 2), 'remote': (0, 4)},
                  absent={'die': 'no dies'})


def topology():
    """What schedlab says of MACHINE."""
    cpus = [{'os': n, 'logical': n, 'smt': n % 2, 'core': n // 2, 'l2': n // 2, 'l3': n // 4,
             'die': None, 'package': n // 4, 'numa': n // 4, 'numa_os': n // 4, 'kind': None,
             'usable': True} for n in range(8)]
    caches = [{'level': 2, 'cpus': cpus} for cpus in ('0-1', '2-3', '4-5', '6-7')] + \
        [{'level': 3, 'cpus': cpus} for cpus in ('0-3', '4-7')]
    nodes = [{'os': n, 'logical': n, 'memory': 990 << 20, 'cpus': cpus, 'distances': distances}
             for n, cpus, distances in ((0, '0-3', [10, 21]), (1, '4-7', [21, 10]))]
    relations = {name: {'cpus': None, 'reason': 'no dies'} for name in RELATIONS}
    for name, pair in {'same-pu': (0, 0), 'unpinned': (0, 0), **WHOLE.pairs}.items():
        relations[name] = {'cpus': list(pair)}
    return {'foreign': False, 'online': '0-7', 'offline': '', 'allowed': '0-7', 'affinity': '0-7',
            'usable': '0-7', 'unusable': {}, 'cpus': cpus, 'caches': caches, 'nodes': nodes,
            'relations': relations}


LISTING = [{'name': 'a', 'family': 'f', 'runnable': True, 'reason': None},
           {'name': 'b', 'family': 'f', 'runnable': False, 'reason': 'one node'}]


def document():
    """What `run` says of lab a, which runs on two siblings, and b, which cannot."""
    metric = {'name': 'm', 'per_run': [{'process': 0, 'cpus': [0, 1]}]}
    series = {'name': 's', 'status': 'ok', 'reason': '', 'warnings': [],
              'placement': {'relation': 'smt', 'cpus': [0, 1], 'logical': [0, 1]},
              'metrics': [metric],
              'checks': [{'name': 'pages on node 0', 'expected': 4, 'seen': 4, 'ok': True}]}
    absent = {'name': 't', 'status': 'skipped', 'reason': 'no dies', 'metrics': [], 'checks': [],
              'warnings': [], 'placement': {'relation': 'die', 'cpus': [], 'logical': []}}
    return {'complete': True, 'env': {'topology': {'usable': '0-7'}},
            'labs': [{'name': 'a', 'status': 'ok', 'reason': '', 'series': [series, absent]},
                     {'name': 'b', 'status': 'skipped', 'reason': 'one node', 'series': []}]}


def broken(check, *arguments, condition=WHOLE):
    report = expectations.Report()
    check(report, expectations.View(MACHINE, condition), *arguments)
    return report.broken


def changed(tree, path, value):
    """A copy of a tree in which one place holds another value."""
    tree = copy.deepcopy(tree)
    place = tree
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return tree


# Where, and what stands there instead.
FALSE_TOPOLOGIES = [
    (('foreign',), True), (('online',), '0-6'), (('offline',), '3'), (('usable',), '0-3'),
    (('allowed',), '0-3'), (('unusable',), {'cgroup': '1'}),
    (('cpus', 3, 'core'), 2), (('cpus', 1, 'smt'), 0), (('cpus', 5, 'package'), 0),
    (('cpus', 5, 'logical'), 6), (('cpus', 5, 'numa_os'), 0), (('cpus', 5, 'numa'), 0),
    (('cpus', 5, 'l3'), 0), (('cpus', 5, 'usable'), False), (('cpus', 0, 'die'), 0),
    (('caches', 0, 'cpus'), '0-3'), (('caches', 5, 'level'), 2),
    (('nodes', 0, 'os'), 2), (('nodes', 1, 'cpus'), '0-3'), (('nodes', 1, 'memory'), 1 << 20),
    (('nodes', 1, 'distances'), [10, 21]),
    (('relations', 'smt', 'cpus'), [0, 2]), (('relations', 'die'), {'cpus': [0, 2]}),
    (('relations', 'numa'), {'cpus': None, 'reason': ''}),
    (('relations', 'die', 'reason'), 'no caches'),
]

SERIES = ('labs', 0, 'series', 0)
FALSE_DOCUMENTS = [
    (('complete',), False), (('env', 'topology', 'usable'), '0'),
    (('labs', 0, 'status'), 'failed'), (('labs', 0, 'status'), 'skipped'),
    (('labs', 1, 'status'), 'ok'), (('labs', 1, 'reason'), ''),
    (SERIES + ('status',), 'failed'), (SERIES + ('reason',), '1 of 2 processes: killed'),
    (SERIES + ('placement', 'cpus'), [0, 2]), (SERIES + ('placement', 'cpus'), [0, 8]),
    (SERIES + ('placement', 'logical'), [0, 2]), (SERIES + ('placement', 'relation'), 'l3'),
    (SERIES + ('metrics', 0, 'per_run', 0, 'cpus'), [0, 3]), (SERIES + ('checks', 0, 'ok'), False),
    (('labs', 0, 'series', 1, 'reason'), ''),
]


class Judge(unittest.TestCase):
    def test_a_true_topology_is_accepted(self):
        self.assertEqual(broken(expectations.check_topology, topology()), [])

    def test_each_false_topology_is_found(self):
        for path, value in FALSE_TOPOLOGIES:
            with self.subTest(path=path, value=value):
                self.assertTrue(broken(expectations.check_topology,
                                       changed(topology(), path, value)))

    def test_a_true_result_is_accepted(self):
        self.assertEqual(broken(expectations.check_run, document(), 0, LISTING), [])

    def test_each_false_result_is_found(self):
        self.assertTrue(broken(expectations.check_run, document(), 1, LISTING))
        for path, value in FALSE_DOCUMENTS:
            with self.subTest(path=path, value=value):
                self.assertTrue(broken(expectations.check_run, changed(document(), path, value), 0,
                                       LISTING))

    def test_a_step_that_printed_no_json_is_found(self):
        report = expectations.Report()
        files = {f'whole/{step}{kind}': text for step in ('list', 'topology', 'run', 'doctor')
                 for kind, text in (('.out', 'no'), ('.err', 'a crash'), ('.status', '139'))}
        expectations.check_condition(report, MACHINE, WHOLE, Results(files))
        self.assertIn('a crash', '\n'.join(report.broken))


def pair_lab(pairs):
    return {'name': 'core_to_core', 'series': [
        {'status': 'ok', 'placement': {'relation': relation, 'cpus': list(pair)}}
        for relation, pair in pairs.items()]}


def node_lab(rows, columns, values):
    matrix = {'rows': [f'node L#0(P#{node})' for node in rows],
              'columns': [f'node L#0(P#{node})' for node in columns], 'values': values}
    return {'name': 'numa_matrix', 'series': [
        {'name': 'matrix/firmware', 'metrics': [{'name': 'distance', 'matrix': matrix}]}]}


class Labs(unittest.TestCase):
    def test_a_pair_that_stands_for_another_or_is_left_out_is_found(self):
        self.assertEqual(broken(labs.check_pairs, pair_lab(WHOLE.pairs)), [])
        for false in ({**WHOLE.pairs, 'l3': (0, 3)}, {'smt': (0, 1), 'l3': (0, 2)}):
            self.assertTrue(broken(labs.check_pairs, pair_lab(false)))

    def test_a_matrix_of_other_nodes_or_with_a_hole_is_found(self):
        far = Condition('far', usable='4-7', cpuset='4-7', mems='0', pairs={})
        self.assertEqual(broken(labs.check_node_matrices,
                                node_lab([0, 1], [0, 1], [[10, 21], [21, 10]])), [])
        self.assertEqual(broken(labs.check_node_matrices, node_lab([1], [0], [[21]]),
                                condition=far), [])
        for false in (node_lab([0], [0], [[10]]), node_lab([1], [0], [[None]]),
                      node_lab([1], [0], [[10]]), node_lab([1], [0, 1], [[21, 10]]),
                      {'name': 'numa_matrix', 'series': []}):
            self.assertTrue(broken(labs.check_node_matrices, false, condition=far))

    def test_a_placement_without_a_proof_is_found(self):
        for seen, holds in ((4, True), (0, False)):
            lab = {'series': [{'name': 'bind', 'status': 'ok', 'checks': [
                {'name': 'pages on node P#1', 'expected': 4, 'seen': seen}]}]}
            self.assertEqual(broken(labs.check_page_proofs, lab) == [], holds)


def pool_results(**changed):
    """What the scenario `pools` sends: two documents and four notes."""
    def series(name, checks=(), reason=''):
        return {'name': name, 'status': 'ok' if checks else 'skipped', 'reason': reason,
                'checks': [{'name': check, 'expected': 0, 'seen': 0, 'ok': changed.get('ok', True)}
                           for check in checks]}
    named = [changed.get('check', NAMED)]
    survival = [series('outside', named), series('timeout', named), series('memory', (), 'no')]
    half = {'env': {'limits': {'quota_cpus': changed.get('quota', 0.5)}},
            'labs': [{'name': 'pool_dispatch', 'series': [series('l2', (), 'none')]},
                     {'name': 'pool_survival', 'series': survival}]}
    memory = {'labs': [{'name': 'pool_survival', 'series': [
        series('memory', named) if changed.get('cage', True) else series('memory', (), 'no')]}]}
    files = {'memory.out': json.dumps(memory), 'half.out': json.dumps(half),
             'stopped.out': f'nr_periods 9\nnr_throttled {changed.get("stopped", 3)}\n',
             'left.out': changed.get('left', ''), 'folders.out': changed.get('folders', ''),
             'memory.status': '0\n', 'half.status': changed.get('status', '0') + '\n'}
    return Results({f'pools/{name}': text for name, text in files.items()})


class Pools(unittest.TestCase):
    def test_pools_that_lose_nothing_are_accepted_and_others_found(self):
        def broken_by(**changed):
            report = expectations.Report()
            SCENARIOS['pools'].check(report, MACHINE, pool_results(**changed))
            return report.broken
        self.assertEqual(broken_by(), [])
        for changed in ({'ok': False}, {'check': 'another'}, {'quota': None}, {'cage': False},
                        {'stopped': 0}, {'left': '17'}, {'folders': '/sys/fs/cgroup/half'},
                        {'status': '1'}):
            self.assertTrue(broken_by(**changed), changed)


class Table(unittest.TestCase):
    def test_every_machine_has_a_test(self):
        rows = (Path(__file__).parent / 'meson.build').read_text()
        listed_there = re.findall(r"'(\w+)'", re.search(r'guests = \[(.*?)\]', rows)[1])
        self.assertEqual(listed_there, [boot.name for boot in BOOTS])

    def test_the_pairs_of_the_table_have_their_relation_and_may_be_used(self):
        for boot in BOOTS:
            for condition in boot.conditions:
                for relation, pair in condition.pairs.items():
                    with self.subTest(boot=boot.name, condition=condition.name, relation=relation):
                        self.assertEqual(boot.machine.relation(*pair), relation)
                        self.assertLessEqual(set(pair), set(listed(condition.usable)))

    def test_a_kernel_list_goes_back_and_forth(self):
        for text in ('', '0', '0-3', '0,2-5,9'):
            self.assertEqual(as_list(listed(text)), text)

    def test_a_condition_undoes_what_it_did(self):
        script = condition_script(Condition('c', usable='0', pairs={}, offline='3', affinity='2-3'),
                                  LISTING)
        self.assertLess(script.index('switch_cpu 3 0'), script.index('switch_cpu 3 1'))
        self.assertLess(script.index('affinity=c'), script.index('affinity=\n'))

    def test_every_scenario_is_known(self):
        for boot in BOOTS:
            self.assertLessEqual(set(boot.scenarios), set(SCENARIOS))


class FileSystem(unittest.TestCase):
    def test_entries_are_aligned_and_the_archive_ends(self):
        archive = Archive()
        archive.folder('bin')
        archive.program('bin/a', b'12345')
        data = archive.bytes()
        self.assertEqual(len(data) % 4, 0)
        entries = [found.start() for found in re.finditer(b'070701', data)]
        self.assertEqual([start % 4 for start in entries], [0, 0, 0])
        self.assertIn(b'12345', data)
        self.assertIn(b'TRAILER!!!', data)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
