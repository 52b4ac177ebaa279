"""The machines that are not there: what QEMU is told to make, and what schedlab must say of it.

A machine is booted once. In it stand conditions, one after another: the whole machine, a CPU
switched off, a cgroup. What must hold for every machine is derived from the numbers given to QEMU
(`Machine.relation`); what a reader should see at a glance stands in the table at the end.
"""

from dataclasses import dataclass, field

RELATIONS = ('same-pu', 'smt', 'l2', 'l3', 'die', 'numa', 'package', 'remote', 'unpinned')


def listed(text):
    """The CPUs of a kernel list such as "0,2-5", in its order."""
    cpus = []
    for item in filter(None, text.split(',')):
        first, _, last = item.partition('-')
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def as_list(cpus):
    """The kernel list of some CPUs: the way back from listed()."""
    runs = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ','.join(f'{first}' if first == last else f'{first}-{last}' for first, last in runs)


@dataclass(frozen=True)
class Node:
    """A NUMA node, by its place in Machine.nodes the kernel's number."""
    cpus: str  # kernel list; empty for memory alone
    mib: int
    initiator: int = -1  # a node without CPUs: whose CPUs it is closest to (HMAT)


@dataclass(frozen=True)
class Machine:
    sockets: int = 1
    dies: int = 1  # in a socket, and so on
    cores: int = 1
    threads: int = 1
    l3: bool = True
    nodes: tuple = (Node('0', 1024),)
    distance: int = 20  # between two nodes

    @property
    def count(self):
        return self.sockets * self.dies * self.cores * self.threads

    # QEMU numbers CPUs by socket, die, core, thread.
    def core(self, cpu):
        return cpu // self.threads

    def die(self, cpu):
        return self.core(cpu) // self.cores

    def package(self, cpu):
        return self.die(cpu) // self.dies

    def node(self, cpu):
        return next(i for i, node in enumerate(self.nodes) if cpu in listed(node.cpus))

    def relation(self, a, b):
        """The closest object that two CPUs share. An L2 belongs to a core, an L3 to a die."""
        shared = (('same-pu', a == b),
                  ('smt', self.core(a) == self.core(b)),
                  ('l3', self.l3 and self.die(a) == self.die(b)),
                  ('die', self.dies > 1 and self.die(a) == self.die(b)),
                  ('numa', self.node(a) == self.node(b)),
                  ('package', self.package(a) == self.package(b)))
        return next((name for name, holds in shared if holds), 'remote')

    def qemu_arguments(self):
        model = 'Skylake-Server'  # EPYC loses its siblings under TCG
        if self.dies > 1:
            model += ',min-level=0x1f'  # the CPUID leaf that tells of dies
        if not self.l3:
            model += ',l3-cache=off'
        hmat = any(node.initiator >= 0 for node in self.nodes)
        arguments = ['-machine', 'pc,hmat=on' if hmat else 'pc', '-cpu', model,
                     '-smp', f'{self.count},sockets={self.sockets},dies={self.dies},'
                             f'cores={self.cores},threads={self.threads}',
                     '-m', f'{sum(node.mib for node in self.nodes)}M']
        for number, node in enumerate(self.nodes):
            arguments += self.node_arguments(number, node, hmat)
        for a in range(len(self.nodes)):
            for b in range(a + 1, len(self.nodes)):
                arguments += ['-numa', f'dist,src={a},dst={b},val={self.distance}']
        return arguments + (self.hmat_arguments() if hmat else [])

    @staticmethod
    def node_arguments(number, node, hmat):
        numa = f'node,nodeid={number},memdev=m{number}'
        if node.cpus:
            numa += ''.join(f',cpus={part}' for part in node.cpus.split(','))
        if hmat:
            numa += f',initiator={node.initiator if node.initiator >= 0 else number}'
        return ['-object', f'memory-backend-ram,size={node.mib}M,id=m{number}', '-numa', numa]

    def hmat_arguments(self):
        """Latency (ns) and bandwidth of each node from each node with CPUs."""
        arguments = []
        for source, start in enumerate(self.nodes):
            for target in range(len(self.nodes)):
                if start.cpus:
                    near = source == target
                    place = f'hmat-lb,initiator={source},target={target},hierarchy=memory'
                    arguments += [
                        '-numa', f'{place},data-type=access-latency,latency={80 if near else 250}',
                        '-numa', f'{place},data-type=access-bandwidth,'
                                 f'bandwidth={100 if near else 20}G']
        return arguments


@dataclass(frozen=True)
class Condition:
    """A state of a machine in which schedlab is asked all its questions."""
    name: str
    usable: str  # kernel list, as are the others
    pairs: dict  # relation -> the pair of CPUs that stands for it; the other relations are absent
    offline: str = ''
    cpuset: str = ''  # a cgroup with these CPUs ...
    mems: str = ''  # ... and these memory nodes
    affinity: str = ''  # taskset to these
    absent: dict = field(default_factory=dict)  # relation -> a part of the reason
    skipped: dict = field(default_factory=dict)  # lab -> a part of the reason
    labs: tuple = ()  # those to run, names and families; empty for all
    doctor: bool = True


@dataclass(frozen=True)
class Boot:
    name: str
    what: str
    machine: Machine
    conditions: tuple
    scenarios: tuple = ()  # names in scenarios.py
    timeout_s: float = 320


# The labs that are planned by topology; where nothing is said, a condition runs them all.
PLACED = ('null', 'switch_cost', 'core_to_core', 'cache_false_sharing', 'numa', 'affinity')
CACHES = PLACED + ('cache',)
ONE_NODE = {'numa_matrix': 'has one', 'numa_placement': 'has one'}
ONE_CPU = {'core_to_core': 'needs 2 CPUs', 'cache_false_sharing': 'needs 2 CPUs',
           'cache_loaded': 'needs 2 CPUs', 'affinity_migration': 'needs two CPUs'}

TWO_SOCKETS = Machine(sockets=2, cores=2, threads=2, distance=21,
                      nodes=(Node('0-3', 1024), Node('4-7', 1024)))

BOOTS = (
    Boot('two_sockets', '2 sockets x 2 cores x 2 threads, a node each', TWO_SOCKETS,
         (Condition('whole', usable='0-7',
                    pairs={'smt': (0, 1), 'l3': (0, 2), 'remote': (0, 4)},
                    absent={'l2': 'without sharing a core', 'die': 'no dies',
                            'numa': 'without sharing', 'package': 'without sharing'}),)),
    Boot('parts', 'only a part of two_sockets may be used', TWO_SOCKETS,
         (Condition('first_sibling_off', usable='0,2-7', offline='1', labs=PLACED,
                    pairs={'smt': (2, 3), 'l3': (0, 2), 'remote': (0, 4)}),
          Condition('far_memory', usable='4-7', cpuset='4-7', mems='0', labs=CACHES,
                    pairs={'smt': (4, 5), 'l3': (4, 6)},
                    absent={'remote': 'the cgroup allows only CPUs 4-7'},
                    skipped={'numa_placement': 'cpuset.mems'}),
          Condition('taskset', usable='5', affinity='5', pairs={}, labs=PLACED,
                    absent={'smt': 'allows only CPU 5', 'remote': 'allows only CPU 5'},
                    skipped=ONE_CPU))),
    Boot('changes', 'CPUs that go, foreign topologies and places, pools in cgroups', TWO_SOCKETS,
         (), scenarios=('unplug', 'foreign', 'places', 'pools')),
    Boot('two_dies', '1 socket x 2 dies x 2 cores x 2 threads on one node',
         Machine(dies=2, cores=2, threads=2, nodes=(Node('0-7', 1024),)),
         (Condition('whole', usable='0-7', labs=CACHES,
                    pairs={'smt': (0, 1), 'l3': (0, 2), 'numa': (0, 4)},
                    absent={'die': 'without sharing a cache', 'remote': 'share a package'},
                    skipped=ONE_NODE),)),
    Boot('no_l3', '2 sockets x 2 dies x 2 cores without L3, a node for each die',
         Machine(sockets=2, dies=2, cores=2, l3=False, distance=15,
                 nodes=tuple(Node(cpus, 512) for cpus in ('0-1', '2-3', '4-5', '6-7'))),
         (Condition('whole', usable='0-7', labs=CACHES,
                    pairs={'die': (0, 1), 'package': (0, 2), 'remote': (0, 4)},
                    absent={'smt': 'share a core', 'l3': 'no L3 cache'}),)),
    Boot('memory_node', '2 sockets, and a node of memory alone beside the first (HMAT)',
         Machine(sockets=2, cores=2, distance=21,
                 nodes=(Node('0-1', 1024), Node('2-3', 1024), Node('', 512, initiator=0))),
         (Condition('whole', usable='0-3', labs=CACHES,
                    pairs={'l3': (0, 1), 'remote': (0, 2)}),
          Condition('memory_only', usable='0-3', cpuset='0-3', mems='2', labs=CACHES,
                    pairs={'l3': (0, 1), 'remote': (0, 2)},
                    skipped={'numa_placement': 'cpuset.mems'}))),
    Boot('one_cpu', 'a single CPU', Machine(),
         (Condition('whole', usable='0', pairs={}, skipped={**ONE_NODE, **ONE_CPU},
                    absent={'smt': 'this machine has one', 'remote': 'this machine has one'}),)),
    Boot('many', '4 sockets x 8 cores x 2 threads, a node each: 64 CPUs',
         Machine(sockets=4, cores=8, threads=2, distance=21,
                 nodes=tuple(Node(f'{16 * i}-{16 * i + 15}', 512) for i in range(4))),
         (Condition('whole', usable='0-63', doctor=False, labs=PLACED,
                    pairs={'smt': (0, 1), 'l3': (0, 2), 'remote': (0, 16)}),)),
)
