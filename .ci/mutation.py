#!/usr/bin/env python3
"""How many small faults in the exported modules do the pages' own tests notice?

    pip install cosmic-ray
    python .ci/mutation.py                     all modules, 40 faults each
    python .ci/mutation.py losses --each 100   one module, more faults

cosmic-ray makes the faults: a number off by one, a comparison turned round, + for -, a condition
negated, a loop that does not run. A sample of them, drawn with --seed, is tried one by one: the
page runs, in a process of its own, with that fault in its exported cells and in a copy of the package.
What no test notices is printed as a diff and saved in nbs/results/mutation/MODULE.json.
"""
import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT/'nbs'/'results'/'mutation'
KINDS = re.compile(r'core/(AddNot|NumberReplacer|ReplaceAndWithOr|ReplaceOrWithAnd|ReplaceTrueWithFalse|'
                   r'ReplaceFalseWithTrue|ReplaceBreakWithContinue|ReplaceContinueWithBreak|'
                   r'ZeroIterationForLoop|ReplaceComparisonOperator_(?!\w*Is)\w+|ReplaceUnaryOperator_Delete_\w+|'
                   r'ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|Pow_Mul))')
SKIPPED = re.compile(r'^#\|\s*(exports?|exporti|default_exp|slow|cuda|net|eval:\s*false)\b', re.M)


def cells_of(page):
    "The source of each code cell of a notebook."
    nb = json.loads(page.read_text(encoding='utf-8'))
    return [''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'code']


def pages():
    "module → its pages: the one that names it as its own, and those that export cells to it"
    found = {}
    for page in sorted((ROOT/'nbs').glob('*.ipynb')):
        source = '\n'.join(cells_of(page))
        for module in re.findall(r'^#\|\s*(?:default_exp|exports?)\s+(\w+)', source, re.M):
            if page not in found.setdefault(module, []):
                found[module].append(page)
    return found


def faults(path, each, rng):
    "A sample of (what it does, mutated source); two faults with the same source count once."
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import MutationVisitor
    from cosmic_ray.plugins import get_operator, operator_names
    source = path.read_text(encoding='utf-8')
    tree, todo = get_ast(source), []
    for name in filter(KINDS.fullmatch, operator_names()):
        operator = get_operator(name)()
        count = sum(1 for node in ast_nodes(tree) for _ in operator.mutation_positions(node))
        todo += [(name, i) for i in range(count)]
    rng.shuffle(todo)
    seen = {source}
    for name, i in todo:
        mutated = MutationVisitor.mutate_code(source, get_operator(name)(), i)
        if mutated not in {None, *seen} and not harmless(source, mutated):
            seen.add(mutated)
            yield name.split('/')[1], mutated
        if len(seen) > each:
            return


def harmless(source, mutated):
    "Only names, types or words for people differ: no test is asked to notice that."
    old, new = source.splitlines(), mutated.splitlines()
    changed = [a for a, b in zip(old, new) if a != b]
    return all(re.match(r'\s*(#|__all__|@dataclass|from |import )', line) for line in changed)


def exported_cells(path):
    "id of a cell → its exported code, as cells of a page run it."
    parts = re.split(r'^# %% \S+ #(\w+)$', path.read_text(encoding='utf-8'), flags=re.M)
    absolute = lambda code: re.sub(r'^(\s*from )\.(\w?)', lambda m: f'{m[1]}resn_nb{"." + m[2] if m[2] else ""}', code, flags=re.M)
    return {cell: absolute(code) for cell, code in zip(parts[1::2], parts[2::2])}


def run_tests(page, path):
    "Run a page with its exported cells as the module's file has them."
    from execnb.shell import CaptureShell
    shell, exported = CaptureShell(str(page)), exported_cells(path)
    for cell in json.loads(page.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'code' or cell['id'] not in exported and SKIPPED.search(source):
            continue
        shell.run(exported.get(cell['id'], source))
        if shell.exc:
            raise AssertionError(f'{page.name}: {shell.exc!r} in\n{source}')


def attempt(package, todo, module, limit):
    "Run the tests against a package in a forked process: passed, failed, broken (no import) or late."
    read, write = os.pipe()
    if not (pid := os.fork()):
        code = 2
        try:
            os.setsid()
            sys.stdout = sys.stderr = open(os.devnull, 'w')
            os.dup2(sys.stdout.fileno(), 1)
            os.dup2(sys.stdout.fileno(), 2)
            sys.path.insert(0, str(package))
            os.environ['PYTHONPATH'] = str(package)
            os.chdir(ROOT/'nbs')
            __import__(f'resn_nb.{module}')
            code = 1
            for page in todo:
                run_tests(page, package/'resn_nb'/f'{module}.py')
            code = 0
        except BaseException:
            os.write(write, traceback.format_exc()[-3000:].encode())
        finally:
            os._exit(code)
    os.close(write)
    end, status = time.monotonic() + limit, None
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(.02)
    else:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        status = None
    try:
        os.killpg(pid, signal.SIGKILL)   # what it left behind
    except ProcessLookupError:
        pass
    os.set_blocking(read, False)
    try:
        why = os.read(read, 4000).decode(errors='replace')
    except BlockingIOError:
        why = ''
    os.close(read)
    if status is None:
        return 'late', ''
    return {0: 'passed', 1: 'failed', 2: 'broken'}.get(os.waitstatus_to_exitcode(status), 'failed'), why


def score(module, todo, each, seed):
    "Try the faults of one module; a result ready to be saved."
    path = ROOT/'resn_nb'/f'{module}.py'
    source, counts, survivors = path.read_text(encoding='utf-8'), {}, []
    with tempfile.TemporaryDirectory() as d:
        package = Path(d)
        shutil.copytree(ROOT/'resn_nb', package/'resn_nb', ignore=shutil.ignore_patterns('__pycache__'))
        start = time.monotonic()
        outcome, why = attempt(package, todo, module, 600)
        if outcome != 'passed':
            raise SystemExit(f'{module}: its tests fail without any fault ({outcome}):\n{why}')
        limit = 10 + 3 * (time.monotonic() - start)
        for kind, mutated in faults(path, each, random.Random(f'{seed} {module}')):
            (package/'resn_nb'/f'{module}.py').write_text(mutated, encoding='utf-8')
            outcome, _ = attempt(package, todo, module, limit)
            counts[outcome] = counts.get(outcome, 0) + 1
            if outcome == 'passed':
                diff = unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm='')
                survivors.append(dict(kind=kind, diff=[x for x in list(diff)[2:] if not x.startswith('@@')]))
                print(f'{module}: {kind} survived', *survivors[-1]['diff'], sep='\n  ', flush=True)
    noticed = counts.get('failed', 0) + counts.get('late', 0)
    tried = noticed + counts.get('passed', 0)
    return dict(module=module, tried=tried, noticed=noticed, score=noticed / tried if tried else None,
                not_importable=counts.get('broken', 0), survivors=survivors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('modules', nargs='*', help='default: all')
    parser.add_argument('--each', type=int, default=40, help='faults to try in each module')
    parser.add_argument('--seed', type=int, default=0, help='of the sample')
    args = parser.parse_args()
    known = pages()
    if wrong := [m for m in args.modules if m not in known]:
        parser.error(f'modules: found {wrong}, valid is some of {", ".join(sorted(known))}')
    os.environ |= dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', IN_TEST='1')
    import matplotlib.pyplot, pandas, scipy.sparse, torch  # noqa: F401, E401 (loaded once, for all forks)
    sys.path.insert(0, str(ROOT))
    for module in args.modules or sorted(known):
        result = score(module, known[module], args.each, args.seed)
        print(f"{module}: {result['noticed']} of {result['tried']} noticed", flush=True)
        save(module, result, f'python .ci/mutation.py {module} --each {args.each} --seed {args.seed}')


def save(module, result, command):
    "One file for each module, with its origin; in a process of its own, which may import the package."
    if not (pid := os.fork()):
        from resn_nb.core import provenance, save_json
        save_json(RESULTS/f'{module}.json', result | dict(provenance=provenance(command)))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f'{module}: the result could not be saved')


if __name__ == '__main__':
    main()
