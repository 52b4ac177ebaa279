"""What single labs must do on these machines, beside what holds for all of them."""

from machines import listed

# They measure pairs, and have a series on the pair of every relation.
PAIR_LABS = ('switch_cost', 'core_to_core', 'cache_false_sharing', 'affinity_migration',
             'io_wakeup')


def check_pairs(report, view, lab):
    """Each relation of the table is measured on the pair that stands for it."""
    measured = {(series['placement']['relation'], tuple(series['placement']['cpus']))
                for series in lab['series'] if series['status'] != 'skipped'}
    for relation, pair in view.condition.pairs.items():
        report.expect(f'{lab["name"]} measures {relation} on CPUs {pair}',
                      (relation, pair) in measured, sorted(measured))


def matrices(lab):
    return {(series['name'], metric['name']): metric['matrix'] for series in lab['series']
            for metric in series['metrics'] if metric['matrix']}


def check_node_matrices(report, view, lab):
    """Rows are the nodes with a usable CPU, columns those whose memory may be used; every cell has
    a number, and the firmware's distances are those given to QEMU."""
    machine, condition = view.machine, view.condition
    rows = sorted({machine.node(cpu) for cpu in view.usable})
    columns = listed(condition.mems) if condition.mems else list(range(len(machine.nodes)))
    found = matrices(lab)
    report.expect('numa_matrix has matrices', found)
    for (series, metric), matrix in found.items():
        name = f'numa_matrix {series}, {metric}'
        for what, wanted in (('rows', rows), ('columns', columns)):
            seen = sorted(int(label.split('P#')[1].rstrip(')')) for label in matrix[what])
            report.expect_equal(f'{name}: kernel numbers of the {what}', seen, wanted)
        report.expect(f'{name}: every cell has a number',
                      all(value is not None for row in matrix['values'] for value in row),
                      matrix['values'])
        if metric == 'distance':
            seen = sorted(value for row in matrix['values'] for value in row)
            report.expect_equal(f'{name}: its numbers', seen,
                                sorted(10 if row == column else machine.distance
                                       for row in rows for column in columns))


def check_page_proofs(report, view, lab):
    """No policy is taken on trust: each series says where the kernel put its pages."""
    for series in lab['series']:
        if series['status'] == 'skipped':
            continue
        proofs = [check for check in series['checks'] if check['name'].startswith('pages ')]
        report.expect(f'numa_placement {series["name"]} proves where its pages are',
                      any(isinstance(check['seen'], (int, float)) and check['seen'] > 0
                          for check in proofs), series['checks'])


def check_one_lab(report, view, lab):
    """A lab that ran."""
    if lab['name'] in PAIR_LABS:
        check_pairs(report, view, lab)
    if lab['name'] == 'numa_matrix':
        check_node_matrices(report, view, lab)
    if lab['name'] == 'numa_placement':
        check_page_proofs(report, view, lab)
