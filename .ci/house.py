#!/usr/bin/env python3
"""The rules of the house, counted: number = reading order = import order, one subject a room, lines that are read.

    python .ci/house.py           what breaks a rule; exit 1 if anything does
    python .ci/house.py --table   also a line of figures for each room, and the longest exported cells
"""
import argparse
import ast
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'resn_nb'
LINES = 400          # of an exported module
LONGER = dict(report=700)   # a report's style, script and pictures, in one place
WIDE, WIDE_SHARE = 100, .01   # columns, and the share of exported lines that may have more
CELL = 12            # median lines of an exported cell
DOCUMENTED = .95     # share of public parameters with a comment
GENERATED = '_modidx', '__init__'
TOUR = 100            # pages below this number export nothing and may show the whole package, if they export nothing

exported = re.compile(r'^#\|\s*(exports?|exporti)\b[ \t]*(\w*)', re.M)
home = re.compile(r'^#\|\s*default_exp\s+(\w+)', re.M)


def code_cells(page):
    nb = json.loads(page.read_text(encoding='utf-8'))
    return [''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'code']


def imports(tree, modules):
    "Modules of the package that some code imports, at the top or inside functions"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ''
            own = node.level == 1 or name.split('.')[0] == PACKAGE
            path = name.split('.') if node.level else name.split('.')[1:]
            if own and path and path[0]: yield path[0]
            elif own: yield from (a.name for a in node.names if a.name in modules)
        elif isinstance(node, ast.Import):
            yield from (a.name.split('.')[1] for a in node.names if a.name.startswith(f'{PACKAGE}.'))


def parsed(source):
    "The syntax tree of a cell; None where it holds what only IPython reads"
    try: return ast.parse(source)
    except SyntaxError: return None


class Rooms:
    def __init__(self):
        self.pages = sorted((ROOT/'nbs').glob('[0-9][0-9][0-9]_*.ipynb'))
        self.cells = {p: code_cells(p) for p in self.pages}
        self.number, self.page, self.wrong = {}, {}, []
        for p, cells in self.cells.items():
            names = [m for s in cells for m in home.findall(s)]
            others = [m[1] for s in cells for m in exported.findall(s) if m[1] and m[1] not in names]
            if len(names) > 1 or others: self.wrong.append(f'{p.name}: exports {names + others}, right is one module or none')
            if names: self.number[names[0]], self.page[names[0]] = int(p.name[:3]), p
        self.source = {m: (ROOT/PACKAGE/f'{m}.py').read_text(encoding='utf-8') for m in self.number}
        self.tree = {m: ast.parse(s) for m, s in self.source.items()}
        self.classes = {c.name: c for t in self.tree.values() for c in t.body if isinstance(c, ast.ClassDef)}

    def known(self):
        "Every exported file has its page"
        for f in sorted((ROOT/PACKAGE).glob('*.py')):
            if f.stem not in GENERATED and f.stem not in self.number: yield f'{PACKAGE}/{f.name}: no page exports it'
        seen = defaultdict(list)
        for p in self.pages: seen[p.name[:3]].append(p.name)
        yield from (f'number {n} stands for {" and ".join(ps)}' for n, ps in seen.items() if len(ps) > 1)

    def order(self):
        "No import runs to a later number, in modules or on pages"
        for m, tree in self.tree.items():
            for other in sorted(set(imports(tree, self.number))):
                if other in self.number and self.number[other] >= self.number[m]:
                    yield f'{m} ({self.number[m]:03}) imports {other} ({self.number[other]:03}), a later number'
        for p, cells in self.cells.items():
            here = int(p.name[:3])
            if here < TOUR and p not in self.page.values(): continue
            trees = filter(None, (parsed(s) for s in cells if not exported.search(s)))
            for other in sorted({x for t in trees for x in imports(t, self.number)}):
                if self.number.get(other, 0) > here:
                    yield f'{p.name} imports {other} ({self.number[other]:03}), a later number'

    def sizes(self):
        for m, s in self.source.items():
            n, most = len(s.splitlines()), LONGER.get(m, LINES)
            if n > most: yield f'{PACKAGE}/{m}.py: {n} lines, right are {most}'

    def private(self):
        "No private name is defined in two modules"
        where = defaultdict(set)
        for m, tree in self.tree.items():
            for node in tree.body:
                names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else [
                    t.id for t in getattr(node, 'targets', []) if isinstance(t, ast.Name)]
                for n in names:
                    if n.startswith('_') and not n.startswith('__') and n != '_all_': where[n].add(m)
        yield from (f'{n} is defined in {", ".join(sorted(ms))}' for n, ms in sorted(where.items()) if len(ms) > 1)

    def lines(self):
        every = [(m, i, x) for m, s in self.source.items() for i, x in enumerate(s.splitlines(), 1)]
        self.long = [x for x in every if len(x[2]) > WIDE and not x[2].startswith(('__all__', '           '))]
        if len(self.long) > WIDE_SHARE * len(every):
            yield f'{len(self.long)} of {len(every)} exported lines have over {WIDE} columns, right is at most {WIDE_SHARE:.0%}'

    def export_cells(self, module):
        for s in self.cells[self.page[module]]:
            if exported.search(s): yield len([x for x in s.splitlines() if not x.startswith('#|')])

    def heights(self):
        every = [n for m in self.number for n in self.export_cells(m)]
        self.median_cell = median(every)
        if self.median_cell > CELL: yield f'the median exported cell has {self.median_cell} lines, right are {CELL}'

    def inherited(self, node):
        "Methods that a class's bases, in this package or of PyTorch, document"
        names = {'forward', 'backward'}
        for base in node.bases:
            of = self.classes.get(getattr(base, 'id', None))
            if of is not None:
                names |= {f.name for f in of.body if isinstance(f, ast.FunctionDef)} | self.inherited(of)
        return names

    def functions(self, body, but=()):
        "Public functions and methods, without those whose base class says what they take"
        for node in body:
            if getattr(node, 'name', '_').startswith('_'): continue
            if isinstance(node, ast.FunctionDef) and node.name not in but: yield node
            if isinstance(node, ast.ClassDef): yield from self.functions(node.body, self.inherited(node))

    def parameters(self, module):
        "(documented, all) public parameters: those with a comment on their line or above it, or a docstring that names them"
        lines, have, every = self.source[module].splitlines(), 0, 0
        for f in self.functions(self.tree[module].body):
            args = [a for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs) if a.arg not in ('self', 'cls')]
            doc = ast.get_docstring(f) or ''
            for a in args:
                every += 1
                own = '#' in lines[a.lineno - 1] or lines[a.lineno - 2].lstrip().startswith('#')
                have += own or f'`{a.arg}`' in doc
        return have, every

    def docments(self):
        have, every = map(sum, zip(*(self.parameters(m) for m in self.number)))
        self.documented = have / every
        if self.documented < DOCUMENTED: yield f'{have} of {every} public parameters are documented, right is {DOCUMENTED:.0%}'

    def table(self):
        print('page module lines cells median wide documented')
        for m in sorted(self.number, key=self.number.get):
            cells, (have, every) = list(self.export_cells(m)), self.parameters(m)
            wide = sum(x[0] == m for x in self.long)
            print(f'{self.number[m]:03} {m:16} {len(self.source[m].splitlines()):5} {len(cells):4} '
                  f'{median(cells):5} {wide:4} {have}/{every}')
        print('\nlongest exported cells')
        for n, m, name in sorted(self.long_cells(), reverse=True)[:10]: print(f'{n:4} {self.page[m].stem:22} {name}')

    def long_cells(self):
        "(lines, module, first definition) of exported cells"
        for m, page in self.page.items():
            for s in self.cells[page]:
                if not exported.search(s): continue
                n, first = len([x for x in s.splitlines() if not x.startswith('#|')]), re.search(r'^(?:class|def) (\w+)', s, re.M)
                yield n, m, first[1] if first else ''


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--table', action='store_true', help='figures of each room')
    rooms, args = Rooms(), parser.parse_args()
    rules = rooms.known, rooms.order, rooms.sizes, rooms.private, rooms.lines, rooms.heights, rooms.docments
    wrong = rooms.wrong + [x for rule in rules for x in rule()]
    if args.table: rooms.table()
    print(*wrong, sep='\n')
    print(f'house: {len(rooms.number)} rooms, median exported cell {rooms.median_cell:g} lines, {len(rooms.long)} lines over '
          f'{WIDE} columns, {rooms.documented:.0%} of public parameters documented, {len(wrong)} complaints')
    return bool(wrong)


if __name__ == '__main__':
    raise SystemExit(main())
